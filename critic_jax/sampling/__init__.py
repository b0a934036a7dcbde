"""Prefill, decode, and the choice of tokens."""
