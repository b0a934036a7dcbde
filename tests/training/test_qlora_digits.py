"""Fine-tuning adapters on four bits, against fine-tuning everything, on handwritten digits."""

from pathlib import Path

import pytest

from critic_jax.cli import main
from critic_jax.data import read_json_lines
from critic_jax.demo.run import prepare
from critic_jax.evaluation.agreement import agreement
from critic_jax.files import write_json_lines
from critic_jax.judging.batch import judge_file

# Half of the judgments are enough to judge 70 % of pairs right; 6,000 others bring 90 %.
READING, FIRST, SECOND = 4_491, 13_473, 6_000


def accuracy(critic: Path, folder: Path) -> float:
    """Share of held-out pairs judged right, over both orders."""
    results = folder / f"{critic.parent.name}.jsonl"
    judge_file(str(critic), folder / "input.jsonl", results, order="both")
    labels = [label for _, label in read_json_lines(folder / "labels.jsonl")]
    return agreement([r for _, r in read_json_lines(results)], labels)["pairwise_accuracy"]


@pytest.mark.slow
def test_adapters_on_four_bits_learn_as_much_as_the_whole_model(tmp_path: Path) -> None:
    prepare(tmp_path, 0)
    records = [record for _, record in read_json_lines(tmp_path / "records/records.jsonl")]
    reading = [r for r in records if r["source"].endswith("reading")]
    judgments = [r for r in records if not r["source"].endswith("reading")]
    assert len(reading) == READING
    first = write_json_lines(tmp_path / "records/first.jsonl", reading + judgments[:FIRST])
    # Other pictures, of the same scans.
    rest = judgments[-SECOND:]
    second = write_json_lines(tmp_path / "records/second.jsonl", rest)

    def train(name: str, init: Path, data: Path, *words: str) -> float:
        output = tmp_path / name
        places = ["--init", str(init), "--data", str(data), "--output", str(output)]
        assert main(["train", "digits_critic", *places, *words]) == 0
        return accuracy(output / "critic", tmp_path / "heldout")

    begun = train("begun", tmp_path / "start", first)
    start = tmp_path / "begun/critic"
    full = train("full", start, second, "--learning-rate", "6e-4")
    adapters = ["--adapters", "qlora", "--lora-rank", "16", "--lora-alpha", "32"]
    qlora = train("qlora", start, second, *adapters, "--learning-rate", "3e-3")
    print(f"pairs judged right: {begun:.3f} before, {full:.3f} all trained, {qlora:.3f} QLoRA")
    assert full > begun + 0.05
    assert qlora >= full - 0.03
