"""Readers of other people's published sets, each in its own layout."""
