"""LLaVA-Critic-72B as the paper trains it, on 64 chips, such as a slice v6e:8x8.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_72b

The paper (arXiv 2410.02712) gives one recipe for both sizes; see critic_7b.py for where its values
are from. Values below that differ from there are ours, the start apart.
"""

from dataclasses import replace

from critic_configs.critic_7b import config as critic_7b

config = replace(
    critic_7b,
    init="lmms-lab/llava-onevision-qwen2-72b-ov",
    output="runs/critic-72b",
    # Ours: 8 groups of 8 chips, a row to each. 8 is the number of key-value heads.
    tensor=8,
    save_every=100,  # ours: steps take longer
)
