"""Preference learning in rounds: rollouts, their rewards, pairs, training."""
