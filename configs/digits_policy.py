"""A tiny policy that reads handwritten digits and takes some for others, to be aligned.

    critic-jax train digits_policy

It starts from the demo's critic, which has learned to see. Every value is ours: the paper trains no
model of this size. The rest is digits_critic.py's.
"""

from dataclasses import replace

from critic_configs.digits_critic import config as digits_critic

config = replace(
    digits_critic,
    init="runs/demo/critic",
    data="runs/demo/policy/records.jsonl",
    output="runs/demo/policy",
    global_batch=60,
    rows=8,
    row_tokens=576,
    learning_rate=6e-4,
)
