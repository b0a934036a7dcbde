"""A round of LLaVA-OneVision-Chat-7B's preference training, on 64 chips, such as a slice v5e:8x8.

    critic-jax dpo dpo_ov7b

The paper (arXiv 2410.02712) and LLaVA-NeXT's page on the model state the start and one epoch a
round. What is marked "script" is of LLaVA-NeXT's scripts/train/dpo_ov7b.sh; what is marked "ours"
is neither's.
"""

from critic_jax.training.config import DpoConfig

config = DpoConfig(
    init="lmms-lab/llava-onevision-qwen2-7b-ov",
    data="pairs.jsonl",  # ours
    output="runs/dpo-ov7b",  # ours
    epochs=1,
    labels="answer",  # ours; upstream-dpo is what the script's code supervises
    loss="sigmoid",  # script
    beta=0.1,  # script
    label_smoothing=0.0,  # script: the default of its trainer
    alpha=1.0,  # script
    gamma=0.0,  # script
    reference="",  # script: the round's start
    global_batch=32,  # ours: pairs in a step; the script does not say on how many devices it runs
    learning_rate=5e-7,  # script; it falls along a cosine, as ours
    warmup_ratio=0.1,  # script
    weight_decay=0.0,  # script
    beta2=0.999,  # script: the default of its optimizer
    clip_norm=1.0,  # script: the default of its trainer
    tower_rate=1.0,  # script: all parts are trained
    projector_rate=1.0,  # script
    decoder_rate=1.0,  # script
    dtype="bfloat16",  # script
    # Ours: a row holds the largest picture, 37 tiles and 8,829 tokens, with both answers.
    rows=16,
    row_tokens=16384,
    row_tiles=40,
    # Ours: 16 groups of 4 chips, a row to each. 4 is the number of key-value heads.
    tensor=4,
    remat="block",  # ours; the script checkpoints too
    seed=0,  # ours
)
