"""A tiny policy that reads handwritten digits and takes some for others, to be aligned.

    critic-jax train digits_policy

It starts from the demo's critic, which has learned to see. Every value is ours: the paper trains no
model of this size.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="runs/demo/critic",
    data="runs/demo/policy/records.jsonl",
    output="runs/demo/policy",
    global_batch=60,
    rows=8,
    row_tokens=576,
    row_tiles=16,
    epochs=1,
    learning_rate=6e-4,
    warmup_ratio=0.05,
    weight_decay=0.05,
    beta2=0.98,
    dtype="float32",
    remat="none",
    save_every=1000,
)
