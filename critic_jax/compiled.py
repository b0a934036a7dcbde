"""Compiled programs are kept on disk: the next start does not wait for the compiler."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import jax

from critic_jax.remote import cache_root


def keep_compiled() -> None:
    """Keep what takes over a second to compile in `compiled/` of the cache (`cache_root`).

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false keeps
    nothing. A program for a CPU runs on CPUs with the same instructions only, so each kind of these
    has a folder of its own.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        folder = cache_root() / "compiled"
        if jax.default_backend() == "cpu":
            folder /= f"cpu-{_instructions()}"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def _instructions() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    said = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return sha256("\n".join(sorted(said)).encode()).hexdigest()[:8]
