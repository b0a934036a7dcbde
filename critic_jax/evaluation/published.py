"""What is published of the released weights; published.json beside this file holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from critic_jax.errors import InputError
from critic_jax.models.config import PRESETS, ModelConfig

# Who publishes: the original files, and the ports to transformers, which store more rows.
ORIGINAL, PORT = "lmms-lab", "llava-hf"


@dataclass(frozen=True)
class Size:
    """One size of the model.

    `rows`: stored vocabulary rows by family; `parameters`: all, in the original files.
    """

    config: ModelConfig
    parameters: int
    rows: dict[str, int]

    def count(self, rows: int) -> int:
        """Parameters in all, where the vocabulary has `rows` stored rows."""
        decoder = self.config.decoder
        each = decoder.hidden_size * (1 if decoder.tied_embeddings else 2)
        return self.parameters + (rows - self.rows[ORIGINAL]) * each


@dataclass(frozen=True)
class Golden:
    """What a model gives to the question: first logits [positions][rows], greedy answer."""

    logits: list[list[float]]
    answer: str


@dataclass(frozen=True)
class Released:
    """One released model. `penalty`: the repetition penalty of the original files, inferred."""

    size: str
    penalty: float | None = None
    golden: Golden | None = None


@dataclass(frozen=True)
class Question:
    """What the golden values answer: a picture of `picture_size` (width, height), and a text."""

    picture: str
    picture_url: str
    picture_size: tuple[int, int]
    text: str
    max_new_tokens: int


@dataclass(frozen=True)
class Published:
    """Everything to hold a checkpoint against. `tolerance`: of a golden logit, absolute."""

    source: str
    question: Question
    tolerance: float
    control_tokens: dict[str, int]
    dtypes: dict[str, str]
    sizes: dict[str, Size]
    models: dict[str, Released]

    def find(self, name: str) -> tuple[str, str | None] | None:
        """(model, family) that a hub id, a folder or a short name (`7b-ov`) stands for, if any.

        The family is None where the name leaves it open.
        """
        *above, last = name.split("@")[0].rstrip("/").lower().split("/")
        port = last.endswith("-hf")
        key = last.removesuffix("-hf").removeprefix("llava-onevision-qwen2-").removeprefix("llava-")
        if key not in self.models:
            return None
        return key, PORT if port else ORIGINAL if above[-1:] == [ORIGINAL] else None

    def named(self, name: str) -> tuple[str, str | None]:
        """As `find`. Raises InputError for a name that is none of the models."""
        found = self.find(name)
        if found is None:
            raise InputError(f"{name}: no released model; these are: {', '.join(self.models)}")
        return found


def load_published() -> Published:
    """The released models of LLaVA-OneVision and LLaVA-Critic."""
    text = files("critic_jax.evaluation").joinpath("published.json").read_text(encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    picture = values["picture"]
    width, height = picture["size"]
    return Published(
        values["source"],
        Question(
            picture["name"],
            picture["url"],
            (width, height),
            values["question"],
            values["max_new_tokens"],
        ),
        values["tolerance"],
        values["control_tokens"],
        values["dtypes"],
        {name: Size(PRESETS[name](), **size) for name, size in values["sizes"].items()},
        {name: _released(model) for name, model in values["models"].items()},
    )


def _released(values: dict[str, Any]) -> Released:
    golden = Golden(values["logits"], values["answer"]) if "logits" in values else None
    return Released(values["size"], values.get("penalty"), golden)
