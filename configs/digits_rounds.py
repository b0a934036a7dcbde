"""Three rounds of preference training: a tiny policy that takes some digits for others learns from
the digits critic, which has learned to tell them apart.

    critic-jax demo                      # makes policy, prompts and critic, then runs this
    critic-jax align digits_rounds       # this alone, on what the demo made

Every value is ours: the paper aligns no model of this size. Answers and their sampling are the
paper's.
"""

from critic_jax.training.config import AlignConfig

config = AlignConfig(
    init="runs/demo/policy_0",
    data="runs/demo/policy/asked_for_critic/prompts.jsonl",
    output="runs/demo/rounds",
    rounds=3,
    judge="runs/demo/critic",
    template="critic-pairwise",
    answers=5,
    max_new_tokens=24,
    compared=0,
    beta=0.1,
    global_batch=16,
    rows=4,
    row_tokens=256,
    row_tiles=4,
    learning_rate=6e-5,
    warmup_ratio=0.1,
    beta2=0.98,
    dtype="float32",
    remat="none",
    save_every=1000,
)
