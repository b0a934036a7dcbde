"""Supervised fine-tuning: config, step, loop."""
