"""Experiments, one Python file each; installed as the package `critic_configs`."""
