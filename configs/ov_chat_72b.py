"""LLaVA-OneVision-Chat-72B: three rounds of preference training, on 64 chips, such as a v6e:8x8.

    critic-jax align ov_chat_72b

The paper (arXiv 2410.02712) gives one recipe for both sizes; see ov_chat_7b.py for where its values
are from. Values below that differ from there are ours, the start apart.
"""

from dataclasses import replace

from critic_configs.ov_chat_7b import config as ov_chat_7b

config = replace(
    ov_chat_7b,
    init="lmms-lab/llava-onevision-qwen2-72b-ov",
    judge="lmms-lab/llava-critic-72b",
    output="runs/ov-chat-72b",
    # Ours: 8 groups of 8 chips, a row to each, twice a step. 8 is the number of key-value heads.
    tensor=8,
    accumulate=2,
    save_every=100,  # ours: steps take longer
)
