"""Makes trl_dpo.json: what TRL's DPOTrainer says of a tiny text model, one step on some pairs.

    pip install trl==1.16.0 datasets accelerate
    PYTHONPATH=.:tests python tests/training/golden/trl_dpo.py

Run once; the tests read the file. Policy and reference are the decoder of our tiny model, with
random weights of two seeds, as Qwen2 of transformers has it. Conservative DPO is TRL's loss "aot",
which is the same for a batch of one pair.
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tiny_critic import GEOMETRY, random_params, tiny_tokenizer
from transformers import (
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)
from trl import DPOConfig, DPOTrainer

from critic_jax.checkpoints import Checkpoint, save_checkpoint
from critic_jax.checkpoints.export import export
from critic_jax.models.config import tiny

FILE = Path(__file__).with_suffix(".json")
BETA = 0.3
POLICY, REFERENCE = 0, 1
"""Seeds of the weights."""
CASES = {
    "sigmoid": ({"loss_type": ["sigmoid"]}, (0, 1, 2)),
    "ipo": ({"loss_type": ["ipo"]}, (0, 1, 2)),
    "sigmoid and sft": ({"loss_type": ["sigmoid", "sft"], "loss_weights": [2.0, 0.5]}, (0,)),
    "smoothed": ({"loss_type": ["aot"], "label_smoothing": 0.2}, (1,)),
}
"""By name, what TRL is told and the pairs of the batch."""
METRICS = (
    *("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"),
    *("logps/chosen", "logps/rejected", "loss", "grad_norm"),
)


def pairs() -> list[dict[str, list[int]]]:
    """Token ids; answers of the second begin alike, and the third's rejected one is preferred."""
    dice = np.random.default_rng(5)

    def ids(count: int) -> list[int]:
        return dice.integers(1, 500, count).tolist()

    begin = ids(3)
    return [
        {"prompt_ids": ids(9), "chosen_ids": ids(6), "rejected_ids": ids(4)},
        {"prompt_ids": ids(5), "chosen_ids": begin + ids(5), "rejected_ids": begin + ids(8)},
        {"prompt_ids": ids(12), "chosen_ids": ids(7), "rejected_ids": ids(2)},
    ]


def text_model(seed: int) -> Qwen2ForCausalLM:
    """The decoder of our tiny model."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name) / "ours", Path(name) / "theirs"
        config = tiny(tiny_tokenizer().vocab_size)
        params = random_params(config, seed)
        save_checkpoint(ours, Checkpoint(config, GEOMETRY, params, tiny_tokenizer(), {}))
        export(str(ours), theirs, "hf", "float32")
        whole = LlavaOnevisionForConditionalGeneration.from_pretrained(theirs, dtype=torch.float32)
    model = Qwen2ForCausalLM(whole.config.text_config)
    model.model.load_state_dict(whole.model.language_model.state_dict())
    model.lm_head.load_state_dict(whole.lm_head.state_dict())
    return model


class Trainer(DPOTrainer):
    """It takes ids as they are; `logged` keeps what its step logs."""

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset


def run(settings: dict, chosen: tuple[int, ...], folder: str) -> dict[str, float]:
    tiny_tokenizer().save(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, pad_token="<|endoftext|>")
    args = DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=len(chosen),
        max_steps=1,
        logging_steps=1,
        logging_first_step=True,
        beta=BETA,
        max_grad_norm=1e9,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        **settings,
    )
    every = pairs()
    trainer = Trainer(
        model=text_model(POLICY),
        ref_model=text_model(REFERENCE),
        args=args,
        train_dataset=Dataset.from_list([every[n] for n in chosen]),
        processing_class=tokenizer,
    )
    trainer.train()
    (line,) = [line for line in trainer.state.log_history if "rewards/chosen" in line]
    return {name: line[name] for name in METRICS}


def main() -> None:
    cases = {}
    for name, (settings, chosen) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            cases[name] = {
                "told": settings,
                "pairs": chosen,
                "found": run(settings, chosen, folder),
            }
    versions = {name: version(name) for name in ("trl", "transformers", "torch", "numpy")}
    seeds = {"policy": POLICY, "reference": REFERENCE}
    document = {"versions": versions, "seeds": seeds, "beta": BETA, "pairs": pairs()}
    FILE.write_text(json.dumps(document | {"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
