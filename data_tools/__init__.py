"""Tools for critic data; installed as `critic_data`, with a console script of its own."""
