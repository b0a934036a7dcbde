"""Compiled programs are kept, and found again by the next process."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import jax, jax.numpy as jnp
from critic_jax.compiled import keep_compiled
keep_compiled()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
found = []
jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((8, 8)))
print("/jax/compilation_cache/cache_hits" in found, jax.config.jax_compilation_cache_dir)
"""


def call(**environment: str) -> list[str]:
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_program_is_compiled_once(tmp_path: Path) -> None:
    assert call(CRITIC_JAX_CACHE=str(tmp_path))[0] == "False"
    hit, folder = call(CRITIC_JAX_CACHE=str(tmp_path))
    assert hit == "True"
    # By kind of processor: a program of one does not run on another.
    assert Path(folder).parent == tmp_path / "compiled" and Path(folder).name.startswith("cpu-")
    other = str(tmp_path / "other")
    named = call(CRITIC_JAX_CACHE=str(tmp_path), JAX_COMPILATION_CACHE_DIR=other)
    assert named == ["False", other]
