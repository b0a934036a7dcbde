"""LLaVA-Critic-7B with low-rank adapters on the decoder, on 8 chips, such as a slice v5e:2x4.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_7b_lora

The paper trains no adapters: every value below is ours. The rest is critic_7b.py's.
"""

from dataclasses import replace

from critic_configs.critic_7b import config as critic_7b

config = replace(
    critic_7b,
    output="runs/critic-7b-lora",
    adapters="lora",
    lora_rank=64,
    lora_alpha=128.0,
    lora_layers=("decoder.*",),
    learning_rate=2e-5,  # ten times that of all parameters, as adapters commonly want
    tower_rate=None,  # frozen: these three are by default, beside adapters
    projector_rate=None,
    decoder_rate=None,
    rows=4,
    tensor=2,
)
