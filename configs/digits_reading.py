"""A tiny model learns to read handwritten digits: where the digits critic starts from.

    critic-jax demo                      # makes the data, runs this, then digits_critic
    critic-jax train digits_reading      # this alone, on what the demo made

Every value is ours: the paper trains no model of this size.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="runs/demo/start",
    data="runs/demo/reading/records/records.jsonl",
    output="runs/demo/reading",
    global_batch=24,
    rows=4,
    row_tokens=256,
    row_tiles=16,
    epochs=8,
    learning_rate=3e-3,
    warmup_ratio=0.08,
    weight_decay=0.05,
    beta2=0.98,
    dtype="float32",
    save_every=1000,
)
