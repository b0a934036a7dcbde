"""LLaVA-Critic-7B as a judge on 4 chips, such as a slice v5e:2x2: what it needs to rank answers.

    critic-jax aot judge_7b --topology v5e:2x2

20 ordered pairs of 5 answers about one picture are judged at a time, each pair a branch of the
trunk that all share.
"""

from critic_jax.sampling.config import SamplingConfig

config = SamplingConfig(
    init="lmms-lab/llava-critic-7b",
    batch=20,
    # The largest picture is 37 tiles and 8,829 tokens; the answers and the questions come after.
    row_tokens=16384,
    row_tiles=40,
    new_tokens=512,
    dtype="bfloat16",
    # A chip to each key-value head.
    tensor=4,
)
