"""Settings for every test: CPU, full float32 products."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling for a TPU asks no machine in the cloud what it is.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax

jax.config.update("jax_default_matmul_precision", "highest")
