"""What several tests of data tools share."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from critic_data.importing.run import Import
from critic_jax.files import write_json_lines


def small_import(sources: tuple[Path, ...], output: Path, **options: Any) -> Import:
    """An import in shards so small that there are several."""
    return Import(sources, output, picture_shard=1 << 20, record_shard=50_000, **options)


def digest(folder: Path) -> dict[str, str]:
    """A hash of every file of an import but its summary, which tells how long it took."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "import.json"
    }


def write_answers(folder: Path, count: int, pictures: int = 8) -> Path:
    """Answers of four models to each question; every third question has a reference."""
    rng = np.random.default_rng(0)
    for n in range(pictures):
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return write_json_lines(
        folder / "answers.jsonl", (answer_line(n, pictures) for n in range(count))
    )


def answer_line(n: int, pictures: int) -> dict[str, Any]:
    pair, model = divmod(n, 4)
    question = f"Describe picture {pair}." if pair % 4 == 0 else f"What is in picture {pair}?"
    fields: dict[str, Any] = {
        "id": f"p{pair}/m{model}",
        "pair": f"p{pair}",
        "question": question,
        "response": f"Model {model} sees thing {n}.",
        "response_model": f"m{model}",
        "source": "svit",
    }
    if pictures:
        fields["image"] = f"{pair % pictures}.png"
    return fields | ({"reference": f"Thing {pair}."} if pair % 3 == 0 else {})
