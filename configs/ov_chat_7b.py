"""LLaVA-OneVision-Chat-7B: three rounds of preference training, on 64 chips, such as a v5e:8x8.

    critic-jax align ov_chat_7b

The paper (arXiv 2410.02712) states rounds, answers, their sampling and the judge. What is marked
"script" is of LLaVA-NeXT's scripts/train/dpo_ov7b.sh; what is marked "ours" is neither's. How each
round trains stands in dpo_ov7b.py.
"""

from dataclasses import replace

from critic_configs.dpo_ov7b import config as round_of_training
from critic_jax.training.config import AlignConfig

config = replace(
    AlignConfig(**vars(round_of_training)),
    data="prompts.jsonl",  # ours: the questions of LLaVA-RLHF's human preferences
    output="runs/ov-chat-7b",  # ours
    rounds=3,
    judge="lmms-lab/llava-critic-7b",
    template="llava-bench",  # ours: two scores, and no reason, which the judge writes after them
    answers=5,
    temperature=0.7,
    top_p=0.9,
    max_new_tokens=512,  # ours
    start="previous",
    reference="round",  # script
    keep_pairs=False,  # ours
    min_margin=0.0,  # ours
    max_unparsed=0.25,  # ours
)
