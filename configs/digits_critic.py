"""A tiny critic of handwritten digits, from scratch on a CPU in minutes.

    critic-jax demo                      # makes the data and the start, then runs this
    critic-jax train digits_critic       # this alone, on what the demo made

Every value is ours: the paper trains no model of this size.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="runs/demo/start",
    data="runs/demo/records/records.jsonl",
    output="runs/demo",
    global_batch=30,
    rows=6,
    row_tokens=448,
    row_tiles=16,
    epochs=1,
    learning_rate=9e-4,
    warmup_ratio=0.05,
    weight_decay=0.05,
    beta2=0.98,
    dtype="float32",
    remat="none",
    save_every=1000,
)
