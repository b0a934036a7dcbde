"""Settings for every test: CPU, full float32 products, compiled programs kept for this run."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Of a worker's tests too: it inherits the folder. Nothing is left in the user's own.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _kept = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _kept.name
    # What compiles in less than a second too: commands are started again and again.
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Copies and judgments that the tests' commands keep: of this run, not the user's.
if "CRITIC_JAX_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="cache-")
    os.environ["CRITIC_JAX_CACHE"] = _cache.name

import jax
import pytest

jax.config.update("jax_default_matmul_precision", "highest")


# Rooms whose tests are of what is computed, not how fast: their programs run once or twice.
QUICK = ("alignment", "judging", "sampling", "serving", "training")


@pytest.fixture(scope="module", autouse=True)
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """In these rooms programs compile in half the time. A module's own COMPILED_QUICKLY decides
    otherwise: those that hold numbers against another's say no."""
    quick = getattr(request.module, "COMPILED_QUICKLY", request.path.parent.name in QUICK)
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `critic-jax demo` leaves, `runs/demo` of an otherwise empty folder.

    A critic is trained for it, over minutes: whoever asks for it is slow and of the group `digits`,
    whose tests run in one process, so that all have the same one.
    """
    folder = tmp_path_factory.mktemp("digits")
    command = [str(Path(sys.executable).with_name("critic-jax")), "demo"]
    subprocess.run(command, cwd=folder, check=True, timeout=2400)
    return folder / "runs/demo"
