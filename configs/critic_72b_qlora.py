"""LLaVA-Critic-72B with adapters on a decoder in four bits, on 8 chips, such as a slice v6e:2x4.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_72b_qlora

The paper trains no adapters: every value below is ours. The rest is critic_7b_qlora.py's.
"""

from dataclasses import replace

from critic_configs.critic_7b_qlora import config as critic_7b_qlora
from critic_configs.critic_72b import config as critic_72b

config = replace(
    critic_7b_qlora,
    init=critic_72b.init,
    output="runs/critic-72b-qlora",
    tensor=2,
    save_every=critic_72b.save_every,
)
