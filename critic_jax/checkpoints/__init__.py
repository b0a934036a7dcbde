"""Checkpoints: the weight table, Hugging Face folders, our own Orbax folders."""

from critic_jax.checkpoints.store import Checkpoint, load_checkpoint, save_checkpoint

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]
