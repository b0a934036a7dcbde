"""A critic of 7B from the pointwise records alone, 72,782 of them: what do the pairwise ones add?

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_7b_pointwise

The paper says that each kind helps the other. The rest is critic_7b.py's.
"""

from dataclasses import replace

from critic_configs.critic_7b import config as critic_7b
from critic_jax.data.selection import Part

config = replace(
    critic_7b,
    data="",
    parts=(Part(critic_7b.data, configs=("pointwise",)),),
    output="runs/critic-7b-pointwise",
)
