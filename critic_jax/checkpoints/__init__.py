"""Checkpoints: the weight table, Hugging Face folders, our own Orbax folders."""

from critic_jax.checkpoints.hub import model_name
from critic_jax.checkpoints.store import (
    Checkpoint,
    load_checkpoint,
    prescribed,
    read_sizes,
    save_checkpoint,
    written_fingerprint,
)

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "model_name",
    "prescribed",
    "read_sizes",
    "save_checkpoint",
    "written_fingerprint",
]
