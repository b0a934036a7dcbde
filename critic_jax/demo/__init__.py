"""The demo: a tiny critic learns to judge answers about real handwritten digits."""
