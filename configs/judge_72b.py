"""LLaVA-Critic-72B as a judge on 16 chips, such as a slice v6e:4x4: what it needs to rank answers.

    critic-jax aot judge_72b --topology v6e:4x4

See judge_7b.py for what is judged at a time.
"""

from dataclasses import replace

from critic_configs.judge_7b import config as judge_7b

config = replace(
    judge_7b,
    init="lmms-lab/llava-critic-72b",
    # Two chips to each of 8 key-value heads: they share its weights by columns.
    tensor=8,
)
