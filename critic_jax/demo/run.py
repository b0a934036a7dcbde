"""The demo: learn to judge handwritten digits from scratch, judge unseen scans, align a policy with
the judge, write a report."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from critic_jax.checkpoints import Checkpoint, save_checkpoint
from critic_jax.data import read_json_lines
from critic_jax.demo.aligned import LEFT, Aligned, align_policy
from critic_jax.demo.digits import Digits, make_digits
from critic_jax.demo.lessons import reading_lessons
from critic_jax.demo.page import judged_card, write_report
from critic_jax.demo.records import training_records, write_heldout, write_records
from critic_jax.errors import Stopped, WorkError
from critic_jax.evaluation.agreement import agreement
from critic_jax.files import write_json, write_json_lines
from critic_jax.imaging import ImageGeometry
from critic_jax.judging.batch import judge_file
from critic_jax.models.build import init_params
from critic_jax.models.config import DecoderConfig, ModelConfig, TowerConfig
from critic_jax.text import train_tokenizer
from critic_jax.training.config import TrainConfig, load_config
from critic_jax.training.loop import clear_run, train

PER_PICTURE = 3
"""Judgments of each training picture; the real set has 2.5."""
COPIES = 6
"""Pictures made of each training scan. A step needs many: the judgments of one share its digit."""
LESSONS = 3
"""Lessons in reading from each training scan."""

TOWER = TowerConfig(128, 256, 4, 2, tile_size=16, patch_size=8)
GEOMETRY = ImageGeometry(tile_size=16, patch_size=8, pinpoints=((16, 16),))


def run_demo(out: Path, seed: int = 0) -> dict[str, Any]:
    """Make the data, train, judge, align a policy, write `out`/report.html and summary.json;
    returns the summary.

    Leaves `out`/critic (the checkpoint), `out`/heldout/{input,labels}.jsonl, and what
    `align_policy` leaves.
    """
    console = Console()
    began = time.perf_counter()
    _clear(out)
    console.print(f"[1/5] making critic records of handwritten digits in {out}")
    digits = make_digits(seed)
    heldout, labels = prepare(out, digits, seed)
    console.print("[2/5] training a tiny critic from scratch")
    try:
        critic = train(_config(out, seed))
    except Stopped:
        said = "stopped while it trained; run again, it begins anew"
        raise WorkError(said) from None
    console.print("[3/5] judging scans that training never saw, pairs in both orders")
    results_path = out / "heldout" / "results.jsonl"
    judge_file(str(critic), heldout, results_path, order="both")
    results = [r for _, r in read_json_lines(results_path)]
    console.print("[4/5] judging again with the picture blanked, and with pictures exchanged")
    controls = _controls(heldout, out / "controls", seed)
    summary: dict[str, Any] = dict(agreement(results, labels))
    for name, path in controls.items():
        judge_file(str(critic), path, path.with_name(f"results_{name}.jsonl"))
        found = [r for _, r in read_json_lines(path.with_name(f"results_{name}.jsonl"))]
        summary[f"{name}_accuracy"] = agreement(found, labels)["pairwise_accuracy"]
    console.print("[5/5] aligning a policy that takes some digits for others, in three rounds")
    try:
        aligned = align_policy(out, critic, digits, seed)
    except Stopped:
        raise WorkError("stopped while a policy trained; run again, it begins anew") from None
    summary |= aligned.numbers
    summary["seconds"] = round(time.perf_counter() - began, 1)
    write_json(out / "summary.json", summary)
    _report(out, summary, heldout, labels, results, aligned)
    console.print(_table(summary))
    console.print(f"report: {out / 'report.html'}")
    return summary


def _clear(out: Path) -> None:
    """Remove what an earlier demo left, or this one would go on from it."""
    for folder in ("start", "records", "heldout", "controls", *LEFT):
        shutil.rmtree(out / folder, ignore_errors=True)
    clear_run(out)


def _config(out: Path, seed: int) -> TrainConfig:
    """The demo's experiment, with its folders below `out`."""
    data = out / "records" / "records.jsonl"
    fields = {"init": out / "start", "data": data, "output": out, "seed": seed}
    return load_config("digits_critic", [w for n, v in fields.items() for w in (f"--{n}", str(v))])


def prepare(out: Path, digits: Digits, seed: int) -> tuple[Path, list[dict[str, Any]]]:
    """Records, held-out lines and a random start; returns the held-out input and its labels."""
    records = training_records(digits, seed, PER_PICTURE, COPIES)
    records += reading_lessons(digits, seed, LESSONS)
    write_records(records, out / "records")
    heldout, labels = write_heldout(digits, seed, out / "heldout")
    tokenizer = train_tokenizer(
        (turn["value"] for record in records for turn in record["conversations"]), 1024
    )
    decoder = DecoderConfig(tokenizer.vocab_size, 128, 256, 3, 4, 2, 32, tied_embeddings=True)
    config = ModelConfig(decoder, TOWER)
    meta = {"name": "start", "step": 0, "generation": {"max_new_tokens": 96}}
    start = Checkpoint(config, GEOMETRY, init_params(config, seed), tokenizer, meta)
    save_checkpoint(out / "start", start)
    return heldout, [label for _, label in read_json_lines(labels)]


def _controls(heldout: Path, folder: Path, seed: int) -> dict[str, Path]:
    """The pairwise lines with every picture blank, and with pictures exchanged between lines."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), 255).save(folder / "blank.png")
    lines = [line for _, line in read_json_lines(heldout) if "response_a" in line]
    pictures = [str((heldout.parent / line["image"]).absolute()) for line in lines]
    random.Random(seed).shuffle(pictures)
    changed: dict[str, list[dict[str, Any]]] = {
        "blank": [line | {"image": "blank.png"} for line in lines],
        "exchanged": [line | {"image": p} for line, p in zip(lines, pictures, strict=True)],
    }
    paths = {name: folder / f"{name}.jsonl" for name in changed}
    for name, path in paths.items():
        write_json_lines(path, changed[name])
    return paths


def _report(
    out: Path,
    summary: Mapping[str, Any],
    heldout: Path,
    labels: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    aligned: Aligned,
) -> None:
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_id.setdefault(result["id"], []).append(result)
    lines = [line for _, line in read_json_lines(heldout)]
    truth = {label["id"]: label for label in labels}
    cards = [judged_card(n, truth[n["id"]], by_id[n["id"]], heldout.parent) for n in lines]
    curve = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    scores = [
        (float(truth[r["id"]]["score"]), float(r["score"]))
        for r in results
        if "score" in r and "score" in truth[r["id"]]
    ]
    write_report(
        out / "report.html",
        summary,
        cards,
        {"loss": [(c["step"], c["loss"]) for c in curve]},
        scores,
        [aligned.section()],
    )


def _table(summary: Mapping[str, Any]) -> Table:
    table = Table("on held-out scans", "value")
    for name, value in summary.items():
        values = value if isinstance(value, list) else [value]
        said = (f"{one:.3f}" if isinstance(one, float) else str(one) for one in values)
        table.add_row(name, ", ".join(said))
    return table
