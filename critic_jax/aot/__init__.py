"""Compiling a step for a TPU pod on a machine that has none: does it fit, what does it cost."""
