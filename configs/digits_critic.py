"""A tiny critic of handwritten digits, from a model that has learned to read them.

    critic-jax demo                      # makes the data, runs digits_reading, then this
    critic-jax train digits_critic       # this alone, on what the demo made

Every value is ours: the paper trains no model of this size.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="runs/demo/reading/critic",
    data="runs/demo/records/records.jsonl",
    output="runs/demo",
    global_batch=12,
    rows=2,
    row_tokens=640,
    row_tiles=8,
    epochs=2,
    learning_rate=2e-3,
    warmup_ratio=0.04,
    weight_decay=0.05,
    beta2=0.98,
    dtype="float32",
    save_every=1000,
)
