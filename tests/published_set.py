"""LLaVA-Critic-113k's published layout in small: real photographs, every judge's format.

Parquet with the columns id, source, conversations and image, in a folder for each config.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

from critic_jax.judging.templates import get_template

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ]
)

# Sizes (width, height) as data sets of web photographs have them, and how often.
SIZES = (
    ((640, 480), 30),
    ((480, 640), 14),
    ((500, 375), 12),
    ((640, 427), 12),
    ((336, 336), 8),
    ((1024, 768), 7),
    ((200, 150), 6),
    ((900, 1100), 5),
    ((1280, 720), 4),
    ((97, 420), 2),
)
POINTWISE = ("caption", "llava-bench", "wildvision", "mmhal", "mmvet", "choice")
PAIRWISE = ("first", "number", "letter", "tie")


@cache
def photographs() -> tuple[np.ndarray, ...]:
    """The photographs that lie in the wheels of scikit-image and scikit-learn, as RGB."""
    named = ("astronaut", "chelsea", "coffee", "rocket", "retina", "camera", "coins", "page")
    found = [np.asarray(getattr(skimage.data, name)()) for name in named]
    found += [np.asarray(image) for image in load_sample_images().images]
    return tuple(np.stack([p] * 3, -1) if p.ndim == 2 else p for p in found)


def picture_file(number: int, seed: int = 0) -> bytes:
    """A window of a photograph at a size as in the wild; every tenth is PNG, the others JPEG."""
    dice = np.random.default_rng([seed, number])
    shares = np.array([share for _, share in SIZES], float)
    width, height = SIZES[dice.choice(len(SIZES), p=shares / shares.sum())][0]
    photograph = photographs()[number % len(photographs())]
    wide, high = (int(side * dice.uniform(0.4, 1.0)) for side in photograph.shape[1::-1])
    left, top = (
        int(dice.integers(0, whole - part + 1))
        for whole, part in zip(photograph.shape[1::-1], (wide, high), strict=True)
    )
    window = Image.fromarray(photograph[top : top + high, left : left + wide])
    file = io.BytesIO()
    resized = window.resize((width, height), Image.Resampling.BILINEAR)
    resized.save(file, "PNG" if number % 10 == 9 else "JPEG", quality=85)
    return file.getvalue()


@dataclass(frozen=True)
class Row:
    """A record as published; `picture` is the number of its picture."""

    config: str
    fields: dict[str, Any]
    picture: int


def published_rows(records: int, pictures: int, seed: int = 0) -> list[Row]:
    """Records of both configs in the published proportion, shuffled over the pictures."""
    dice = np.random.default_rng(seed)
    # Every picture at least once, and some of them often.
    rest = dice.choice(pictures, size=records - pictures, p=_shares(pictures))
    numbers = dice.permutation(np.concatenate([np.arange(pictures), rest]))
    rows = []
    for n, picture in enumerate(numbers.tolist()):
        config = "pointwise" if n < round(records * 72_782 / 112_936) else "pairwise"
        forms = POINTWISE if config == "pointwise" else PAIRWISE
        form = forms[n % len(forms)]
        prompt, answer = _judgment(form, picture, n)
        turns = [
            {"from": "human", "value": f"<image>\n{prompt}"},
            {"from": "gpt", "value": answer},
        ]
        fields = {"id": f"{config}_{n}", "source": f"{form}-source", "conversations": turns}
        rows.append(Row(config, fields, picture))
    return rows


def _shares(pictures: int) -> np.ndarray:
    weights = 1.0 / np.arange(1, pictures + 1) ** 0.3
    return weights / weights.sum()


def _judgment(form: str, picture: int, n: int) -> tuple[str, str]:
    """(prompt, answer) in the format; the words before the answers are the picture's own."""
    question = f"What stands out in picture {picture}?\nName {1 + picture % 3} things."
    good = f"A {'bright ' * (n % 5)}subject in front of a plain background, number {n}."
    poor = f"Something {'rather ' * (n % 3)}dark."
    because = f"It names what is there.\nThe other point {n % 7} is minor." * (1 + n % 3)
    if form == "caption":
        text = get_template("caption").render(question="Describe it.", response=good)
        return text, f"{because}\nFinal Score: {n % 101}"
    if form == "mmhal":
        text = get_template("mmhal").render(question=question, response=good, reference=poor)
        return text, f"{because}\nRating: {n % 7}"
    if form == "mmvet":
        text = get_template("mmvet").render(question=question, response=good, reference=poor)
        return text, f"{because}\nScore: {n % 11 / 10}"
    if form == "choice":
        return f"{question}\nA. {good}\nB. {poor}\nAnswer with the letter.", "A"
    pair = {"question": question, "response_a": good, "response_b": poor}
    if form == "llava-bench":
        return get_template("llava-bench").render(**pair), f"{n % 10 + 1} 7\n{because}"
    if form == "wildvision":
        label = ("A>>B", "A>B", "A=B", "B>A", "B>>A")[n % 5]
        return get_template("wildvision").render(**pair), f"{because}\n[[{label}]]"
    names = {"number": ("Response 1", "Response 2"), "letter": ("Response A", "Response B")}
    first, second = names.get(form, ("The first response", "The second response"))
    prompt = (
        f"Decide which of two answers is better.\nQuestion: [{question}]\n"
        f"{first}: [{good}]\n{second}: [{poor}]\nASSISTANT:"
    )
    if form == "tie":
        return prompt, f"Both responses are equally good.\nReason: {because}"
    said = {"first": "first", "number": "2", "letter": "A"}[form]
    return prompt, f"The better response: [{said}]\nReason: {because}"


def write_published(
    folder: Path, rows: list[Row], rows_a_group: int = 50, files: int = 2, seed: int = 0
) -> list[Path]:
    """Write the rows as parquet, `files` files a config; their paths."""
    kept: dict[int, bytes] = {}

    def image(picture: int) -> dict[str, Any]:
        if picture not in kept:
            kept[picture] = picture_file(picture, seed)
        return {"bytes": kept[picture], "path": f"{picture}.jpg"}

    paths = []
    for config in ("pointwise", "pairwise"):
        of_config = [row for row in rows if row.config == config]
        for number, part in enumerate(_parts(of_config, files)):
            path = folder / config / f"train-{number:05d}-of-{files:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pa.Table.from_pylist(
                [{**row.fields, "image": image(row.picture)} for row in part], SCHEMA
            )
            pq.write_table(table, path, row_group_size=rows_a_group)
            paths.append(path)
    return paths


def _parts(rows: list[Row], count: int) -> Iterator[list[Row]]:
    size = -(-len(rows) // count)
    for first in range(0, len(rows), max(size, 1)):
        yield rows[first : first + size]
