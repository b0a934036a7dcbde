"""Readers of published benchmarks of policies: what is asked, and how the answer is judged.

Where the names of fields come from stands beside the fixtures, in
tests/published_records.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from critic_jax.evaluation.benchmarks.record import Record

WILDVISION_ANCHOR = "claude-3-sonnet-20240229"
"""The model that WildVision-Bench holds all others against."""

Scale = Literal["percent", "ratio", "mean", "battle"]


@dataclass(frozen=True)
class Task:
    """One prompt of a benchmark.

    images: paths of pictures. judged: the judge's line, but for the policy's answer, which goes
    into the field `answer_in`.
    """

    id: str
    images: tuple[str, ...]
    prompt: str
    judged: Mapping[str, Any]
    answer_in: Literal["response", "response_b"]
    group: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """How records are read, and what the benchmark's number is made of.

    scale: "ratio" of the answers' scores to the reference answers', in percent; "percent" of the
    highest score; "mean" score; "battle", the score of a leaderboard against the reference's model.
    lowest, highest: the judge's scale, at whose lower end an unparsed judgment counts as wrong.
    hallucinated_below: a score that says that something is hallucinated is below this.
    """

    read: Callable[[Record], Task]
    scale: Scale
    lowest: float = 0.0
    highest: float = 0.0
    hallucinated_below: float | None = None


def llava_in_the_wild(record: Record) -> Task:
    """LLaVA-Bench (in-the-wild): beside GPT-4's answer, which stands first."""
    kind = record.choice("category", {name: name for name in ("conv", "detail", "complex")})
    judged = {"template": "llava-bench", "response_a": record.text("gpt_answer")}
    return _task(record, "question_id", "question", judged, "response_b", kind)


def llava_wilder(record: Record) -> Task:
    """LLaVA-Bench-Wilder: beside the reference answer, whose score is 10."""
    judged = {"template": "llava-wilder", "response_a": record.text("Answer")}
    return _task(record, None, "Question", judged, "response_b")


def wildvision_bench(record: Record) -> Task:
    """WildVision-Bench with the models' answers: beside that of the reference model."""
    judged = {"template": "wildvision", "response_a": record.text(WILDVISION_ANCHOR)}
    return _task(record, "question_id", "instruction", judged, "response_b")


def livebench(record: Record) -> Task:
    """LiveBench: 0 to 10, with the true answer and the question's own criteria at hand."""
    images = record.items("images", "a list of pictures")
    judged = {
        "template": "livebench",
        "reference": record.text("answer"),
        "criteria": record.text("criteria"),
    }
    paths = tuple(record.picture_of(f"images[{n}]", one) for n, one in enumerate(images))
    return _task(record, "id", "question", judged, "response", record.text("subtask"), paths)


def mmhal(record: Record) -> Task:
    """MMHal-Bench: 0 to 6, with the true answer and what is in the picture at hand."""
    contents = record.items("image_content", "a list of what is in the picture")
    source = record.text("image_src", "the picture's address")
    seen = f"In the picture: {', '.join(map(str, contents))}"
    judged = {"template": "mmhal", "reference": f"{record.text('gt_answer')}\n\n{seen}"}
    paths = (record.picture_of("image_src", PurePosixPath(source).name),)
    return _task(record, None, "question", judged, "response", record.text("question_type"), paths)


def video_dc(record: Record) -> Task:
    """Video detailed captioning: 0 to 5 by the true answer alone; the judge sees no frame."""
    judged = {"template": "video-dc", "reference": record.text("answer")}
    frames = record.video("video_name")
    task = _task(record, None, "question", judged, "response", None, frames)
    return replace(task, judged={k: v for k, v in task.judged.items() if k != "image"})


POLICY_SETS: Mapping[str, Benchmark] = {
    "llava-in-the-wild": Benchmark(llava_in_the_wild, "ratio", 1, 10),
    "llava-wilder": Benchmark(llava_wilder, "ratio", 1, 10),
    "wildvision-bench": Benchmark(wildvision_bench, "battle"),
    "livebench": Benchmark(livebench, "percent", 0, 10),
    "mmhal": Benchmark(mmhal, "mean", 0, 6, hallucinated_below=3),
    "video-dc": Benchmark(video_dc, "mean", 0, 5),
}


def _task(
    record: Record,
    named: str | None,
    question: str,
    judged: dict[str, Any],
    answer_in: Literal["response", "response_b"],
    group: str | None = None,
    images: tuple[str, ...] | None = None,
) -> Task:
    name = record.text(named) if named else f"{record.file.stem}-{record.number}"
    images = (record.picture("image"),) if images is None else images
    text = record.text(question)
    asked = {"id": name, "question": text, **judged}
    if images:
        asked["image"] = list(images)
    return Task(name, images, text, asked, answer_in, group)
