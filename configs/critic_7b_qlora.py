"""LLaVA-Critic-7B with adapters on a decoder in four bits, on 4 chips, such as a slice v5e:2x2.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_7b_qlora

The paper trains no adapters: every value below is ours. The rest is critic_7b_lora.py's.
"""

from dataclasses import replace

from critic_configs.critic_7b_lora import config as critic_7b_lora

config = replace(
    critic_7b_lora,
    output="runs/critic-7b-qlora",
    adapters="qlora",
    tensor=1,
)
