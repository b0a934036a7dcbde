"""Published benchmarks: their files as judge input and labels, or as prompts of a policy."""
