"""LLaVA-Critic-7B v0.5, the paper's smaller set: 42k pointwise and 11k pairwise records.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_7b_v05

Which records are in the paper's set is not published: these are drawn by the seed, which is ours.
Other shares of the data are other samples. The rest is critic_7b.py's.
"""

from dataclasses import replace

from critic_configs.critic_7b import config as critic_7b
from critic_jax.data.selection import Part

config = replace(
    critic_7b,
    data="",
    parts=(
        Part(critic_7b.data, configs=("pointwise",), sample=42_000),
        Part(critic_7b.data, configs=("pairwise",), sample=11_000),
    ),
    output="runs/critic-7b-v05",
)
