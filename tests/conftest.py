"""Settings for every test: CPU, full float32 products, compiled programs kept for this run."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Of a worker's tests too: it inherits the folder. Nothing is left in the user's own.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _kept = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _kept.name

# Copies and judgments that the tests' commands keep: of this run, not the user's.
if "CRITIC_JAX_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="cache-")
    os.environ["CRITIC_JAX_CACHE"] = _cache.name

import jax

jax.config.update("jax_default_matmul_precision", "highest")
