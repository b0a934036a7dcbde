"""LLaVA-Critic-7B as the paper trains it, on 32 chips, such as a slice v5e:4x8.

    critic-data import llava-critic-113k --output critic-113k --tokenizer llava-critic-7b
    critic-jax train critic_7b

The paper (arXiv 2410.02712) states the start, the data, one epoch, batch and learning rate. What is
marked "script" is of LLaVA-OneVision's fine-tuning script, whose code it says it trains with; what
is marked "ours" is neither's.
"""

from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init="lmms-lab/llava-onevision-qwen2-7b-ov",
    data="critic-113k",  # ours: the folder that the import above writes
    output="runs/critic-7b",  # ours
    labels="answer",  # ours; upstream-sft is what the script's code supervises
    global_batch=32,
    epochs=1,
    learning_rate=2e-6,
    warmup_ratio=0.03,  # script
    weight_decay=0.0,  # script
    beta2=0.999,  # script: the default of its optimizer
    clip_norm=1.0,  # script: the default of its trainer
    tower_rate=1.0,  # script: all parts are trained; its tower's rate, 2e-6, is this one
    projector_rate=1.0,  # script
    decoder_rate=1.0,  # script
    dtype="bfloat16",  # script
    loss_mean="record",  # script: a record at a time on each device
    # Ours: a row holds the largest picture, 37 tiles and 8,829 tokens, with a judgment or more.
    rows=8,
    row_tokens=16384,
    row_tiles=40,
    # Ours: 8 groups of 4 chips, a row to each. 4 is the number of key-value heads.
    tensor=4,
    remat="block",  # ours; the script checkpoints too
    save_every=200,  # ours
    seed=0,  # ours
)
