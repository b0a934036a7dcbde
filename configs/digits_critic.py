"""A tiny critic of handwritten digits, from scratch on a CPU in minutes.

    critic-jax demo                                  # makes the data and the start, then runs this
    critic-jax train digits_critic --output runs/demo   # this alone, on what the demo made

Every value is ours: the paper trains no model of this size.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="runs/demo/start",
    data="runs/demo/records/records.jsonl",
    output="runs/demo",
    labels="answer",
    global_batch=64,
    rows=10,
    row_tokens=1024,
    row_tiles=48,
    epochs=6,
    learning_rate=3e-3,
    warmup_ratio=0.05,
    weight_decay=0.05,
    beta2=0.98,
    dtype="float32",
    save_every=200,
)
