"""One epoch of DPO on LLaVA-OneVision-7B, on 64 chips, such as a slice v5e:8x8.

    critic-jax dpo dpo_ov7b

What is marked "script" is of LLaVA-NeXT's scripts/train/dpo_ov7b.sh; what is marked "ours" is not.
"""

from critic_jax.training.config import DpoConfig

config = DpoConfig(
    init="lmms-lab/llava-onevision-qwen2-7b-ov",  # script
    data="pairs.jsonl",  # ours
    output="runs/dpo-ov7b",  # ours
    labels="answer",  # ours; upstream-dpo is what the script's code supervises
    loss="sigmoid",  # script
    beta=0.1,  # script
    alpha=1.0,  # script
    gamma=0.0,  # script
    global_batch=32,  # ours: pairs in a step; the script does not say on how many devices it runs
    epochs=1,  # script
    learning_rate=5e-7,  # script
    warmup_ratio=0.1,  # script
    weight_decay=0.0,  # script
    tower_rate=1.0,  # script: all parts are trained
    projector_rate=1.0,  # script
    decoder_rate=1.0,  # script
    dtype="bfloat16",  # script
    # Ours: a row holds the largest picture, 37 tiles and 8,829 tokens, with both answers.
    rows=16,
    row_tokens=16384,
    row_tiles=40,
    tensor=4,  # ours
    remat="block",  # ours; the script checkpoints too
    seed=0,  # ours
)
