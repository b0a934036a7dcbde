"""Fine-tuning adapters on four bits, against fine-tuning everything, on handwritten digits.

The trained critic of the demo learns to name the worse answer of a pair instead of the better.
"""

from pathlib import Path

import pytest

from critic_jax.cli import main
from critic_jax.data import read_json_lines
from critic_jax.evaluation.agreement import agreement
from critic_jax.files import write_json_lines
from critic_jax.judging.batch import judge_file

COMPILED_QUICKLY = False

RECORDS, PAIRS = 2_500, 200
OTHER = {"[first]": "[second]", "[second]": "[first]", "[[A]]": "[[B]]", "[[B]]": "[[A]]"}


def of_the_other_opinion(record: dict) -> dict | None:
    """The record with its verdict turned round; None if it has no verdict on a pair."""
    asked, answer = record["conversations"]
    for verdict, other in OTHER.items():
        if answer["value"].endswith(verdict):
            turned = answer | {"value": answer["value"].removesuffix(verdict) + other}
            return record | {"conversations": [asked, turned]}
    return None


@pytest.mark.slow
@pytest.mark.xdist_group("digits")
def test_adapters_on_four_bits_learn_as_much_as_the_whole_model(
    digits_run: Path, tmp_path: Path
) -> None:
    records = [record for _, record in read_json_lines(digits_run / "records/records.jsonl")]
    turned = [new for record in records if (new := of_the_other_opinion(record))]
    data = write_json_lines(digits_run / "records/other_opinion.jsonl", turned[-RECORDS:])
    lines = [line for _, line in read_json_lines(digits_run / "heldout/input.jsonl")]
    pairs = write_json_lines(digits_run / "heldout/pairs.jsonl", lines[:PAIRS])
    labels = [label for _, label in read_json_lines(digits_run / "heldout/labels.jsonl")]
    worse = [
        label | {"verdict": {"A": "B", "B": "A"}[label["verdict"]]} for label in labels[:PAIRS]
    ]

    def accuracy(critic: Path) -> float:
        """Share of held-out pairs whose worse answer it names."""
        results = tmp_path / f"{critic.parent.name}.jsonl"
        judge_file(str(critic), pairs, results)
        return agreement([r for _, r in read_json_lines(results)], worse)["pairwise_accuracy"]

    def train(name: str, *words: str) -> float:
        places = ["--init", str(digits_run / "critic"), "--data", str(data)]
        assert (
            main(["train", "digits_critic", *places, "--output", str(tmp_path / name), *words]) == 0
        )
        return accuracy(tmp_path / name / "critic")

    before = accuracy(digits_run / "critic")
    full = train("full", "--learning-rate", "6e-4")
    adapters = ["--adapters", "qlora", "--lora-rank", "16", "--lora-alpha", "32"]
    qlora = train("qlora", *adapters, "--learning-rate", "3e-3")
    print(f"worse answers named: {before:.3f} before, {full:.3f} all trained, {qlora:.3f} QLoRA")
    assert before < 0.1
    assert full > 0.85
    assert qlora >= full - 0.03
