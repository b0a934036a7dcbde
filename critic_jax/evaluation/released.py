"""Whether a checkpoint holds the released weights: one row for each thing that is published."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from critic_jax.checkpoints import load_checkpoint, model_name
from critic_jax.checkpoints.arrays import ArrayReader
from critic_jax.checkpoints.blocks import Param, ahead, blocks, parameters, parts_of
from critic_jax.checkpoints.convert import finite
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.checkpoints.store import Manifest, find_model, open_checkpoint
from critic_jax.errors import InputError
from critic_jax.evaluation.golden import Asked, distance, parting
from critic_jax.evaluation.published import PORT, Golden, Published, Size, load_published
from critic_jax.imaging import open_picture
from critic_jax.models.config import ModelConfig
from critic_jax.progress import progress
from critic_jax.text import ChatTokenizer

State = Literal["ok", "differs", "not checked"]


@dataclass(frozen=True)
class Check:
    """One row: what was found, what is published, and what there is to say about it."""

    name: str
    state: State
    found: Any = None
    expected: Any = None
    why: str = ""

    def line(self) -> str:
        """The row in words, without its name."""
        if self.state == "not checked":
            return f"not checked: {self.why}"
        said = f"ok: {_short(self.found)}"
        if self.state == "differs":
            said = f"differs: found {_short(self.found)}, expected {_short(self.expected)}"
        return said + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Verification:
    """All rows; `model` is the released model that `path` was held against, if it was told."""

    path: str
    model: str | None
    family: str | None
    checks: list[Check]

    @property
    def differing(self) -> list[str]:
        """The names of the rows that differ."""
        return [c.name for c in self.checks if c.state == "differs"]

    def document(self) -> dict[str, Any]:
        """Everything, for a program."""
        return asdict(self) | {"differing": self.differing}

    def lines(self) -> dict[str, str]:
        """A line a row, for a person."""
        counts = {s: sum(c.state == s for c in self.checks) for s in ("ok", "differs")}
        rest = len(self.checks) - sum(counts.values())
        against = self.model or "all models of its size"
        return {
            "path": self.path,
            "held against": f"{against}, {self.family or 'any'} files",
            **{c.name: c.line() for c in self.checks},
            "in all": f"{counts['ok']} ok, {counts['differs']} differ, {rest} not checked",
        }


def verify(
    model: str | os.PathLike[str],
    image: Path | None = None,
    released: str | None = None,
    published: Published | None = None,
) -> Verification:
    """Hold a checkpoint (ours, a Hugging Face folder or a hub id) against what is published.

    The weights are read once through, block by block. With `image`, the picture of the published
    question, the model is loaded and asked. `released` names the model that it should be; else its
    own name tells, or the hub id that it came from. Raises InputError for what is no checkpoint, a
    name that is none, and a picture of another size.
    """
    published = published or load_published()
    told = published.named(released) if released is not None else None
    picture = _picture(image, published) if image is not None else None
    reader, manifest, tokenizer = open_checkpoint(model)
    if told is None:
        names = (manifest.meta.get("from"), manifest.meta.get("name"), model_name(model))
        known = (published.find(str(name)) for name in names if name)
        told = next((found for found in known if found), None)
    key, family = told or (None, None)
    rows = _Rows(published, manifest, key, family)
    rows.sizes()
    rows.stored(reader)
    rows.text(tokenizer)
    if picture is None:
        why = f"--image FILE runs the model on {published.question.picture}"
        rows.skip("golden logits", why)
        rows.skip("golden answer", why)
    else:
        rows.golden(lambda: _ask(model, picture, published))
    return Verification(str(model), key, rows.family, rows.checks)


def _ask(model: str | os.PathLike[str], picture: Image.Image, published: Published) -> Asked:
    checkpoint = load_checkpoint(find_model(model))
    return Asked(checkpoint, model_name(model), picture, published.question)


def _picture(file: Path, published: Published) -> Image.Image:
    picture, question = open_picture(file), published.question
    if picture.size != question.picture_size:
        found, right = ("x".join(map(str, s)) for s in (picture.size, question.picture_size))
        raise InputError(
            f"{file}: is {found} pixels; the published values are for {question.picture}, "
            f"{right} pixels: {question.picture_url}"
        )
    return picture


class _Rows:
    """The rows as they come in. `family` is the name's, or else the one that stores such rows."""

    def __init__(
        self, published: Published, manifest: Manifest, key: str | None, family: str | None
    ) -> None:
        self.published, self.config, self.meta = published, manifest.config, manifest.meta
        self.key = key
        self.params = parameters(self.config)
        self.checks: list[Check] = []
        width = self.config.decoder.hidden_size
        fitting = (n for n, s in published.sizes.items() if s.config.decoder.hidden_size == width)
        self.size_name = next(fitting, None)
        self.size: Size | None = published.sizes.get(self.size_name or "")
        self.told = family
        self.family = family
        if family is None and self.size is not None:
            rows = self.config.decoder.vocab_size
            self.family = next((f for f, r in self.size.rows.items() if r == rows), None)

    def equal(self, name: str, found: Any, expected: Any, why: str = "") -> None:
        state: State = "ok" if found == expected else "differs"
        self.checks.append(Check(name, state, found, expected, why))

    def skip(self, name: str, why: str, found: Any = None) -> None:
        self.checks.append(Check(name, "not checked", found, None, why))

    def sizes(self) -> None:
        """Everything that the config says of the model's shape."""
        published, config, size = self.published, self.config, self.size
        if size is None:
            widths = {n: s.config.decoder.hidden_size for n, s in published.sizes.items()}
            right = ", ".join(f"{width} ({name})" for name, width in widths.items())
            found = config.decoder.hidden_size
            self.checks.append(Check("size", "differs", found, right, "the decoder's width"))
            for name in ("sizes", "tower layers", "tied embeddings", "vocabulary rows"):
                self.skip(name, "of no released size")
            self.skip("parameters", "of no released size")
            return
        released = published.models[self.key].size if self.key else self.size_name
        self.equal("size", self.size_name, released)
        unlike, alike = _unlike(config, size.config)
        self.equal("sizes", unlike or "as published", alike or "as published")
        layers = (config.tower.num_layers, size.config.tower.num_layers)
        self.equal("tower layers", *layers)
        tied = (config.decoder.tied_embeddings, size.config.decoder.tied_embeddings)
        self.equal("tied embeddings", *tied)
        stored = config.decoder.vocab_size
        allowed = [size.rows[self.told]] if self.told else list(size.rows.values())
        by = next((f"{family}'s" for family, rows in size.rows.items() if rows == stored), "")
        fits: State = "ok" if stored in allowed else "differs"
        expected = " or ".join(map(str, allowed))
        self.checks.append(Check("vocabulary rows", fits, stored, expected, by))
        whole = parts_of(parameters(size.config))
        more = size.count(stored) - size.parameters
        counts = parts_of(self.params)
        for part, count in counts.items():
            expected_count = whole[part] + (more if part == "decoder" else 0)
            self.equal(f"parameters, {part}", count, expected_count)
        self.equal("parameters", sum(counts.values()), size.count(stored))

    def stored(self, reader: ArrayReader | HuggingFaceFolder) -> None:
        """Types, names and values of what lies on the disk."""
        dtypes = sorted({reader.dtype(p).name for p in self.params})
        found, right = ", ".join(dtypes), self.published.dtypes
        if self.family is not None:
            self.equal("dtype", found, right[self.family], f"{self.family}'s")
        else:
            known = found in right.values()
            either = " or ".join(right.values())
            self.checks.append(Check("dtype", "ok" if known else "differs", found, either))
        if layout := self.meta.get("layout"):
            self.checks.append(Check("key layout", "ok", layout, None))
        else:
            self.skip("key layout", "not read from released files")
        bad = _not_finite(reader, self.params)
        self.equal("finite weights", ", ".join(bad) or "all", "all")

    def text(self, tokenizer: ChatTokenizer) -> None:
        """Control tokens, and what the sampler is told."""
        found = {
            "<|endoftext|>": tokenizer.end_of_text,
            "<|im_start|>": tokenizer.im_start,
            "<|im_end|>": tokenizer.im_end,
            "<image>": tokenizer.image,
        }
        self.equal("control tokens", found, self.published.control_tokens)
        penalty = (self.meta.get("generation") or {}).get("repetition_penalty") or 1.0
        if self.family == PORT:
            self.equal("repetition penalty", penalty, 1.0)
            return
        released = self.published.models[self.key] if self.key else None
        if released is None or released.penalty is None:
            known = "nothing is known of this model's" if released else "the model's name is needed"
            self.skip("repetition penalty", f"{known}; found {penalty}", penalty)
            return
        why = "inferred from the length of the published file"
        self.equal("repetition penalty", penalty, released.penalty, why)

    def golden(self, ask: Callable[[], Asked]) -> None:
        """First logits and greedy answer; `ask` loads the model."""
        models = self.published.models
        entries = {
            name: model.golden
            for name, model in models.items()
            if model.golden is not None and model.size == self.size_name
        }
        if self.key is not None and models[self.key].golden is None:
            why = f"none are published of {self.key}"
        elif not entries or (self.key is not None and self.key not in entries):
            why = "of no released size" if not entries else f"the size is not {self.key}'s"
        else:
            self._golden(ask(), entries)
            return
        self.skip("golden logits", why)
        self.skip("golden answer", why)

    def _golden(self, asked: Asked, entries: dict[str, Golden]) -> None:
        shape = [len(next(iter(entries.values())).logits)] * 2
        logits = asked.first_logits(*shape)
        far = {name: distance(logits, golden) for name, golden in entries.items()}
        nearest = min(far, key=far.__getitem__)
        name, tolerance = self.key or nearest, self.published.tolerance
        close = far[name] <= tolerance
        why = f"largest difference {far[name]:.3g}, tolerance {tolerance}"
        if nearest != name and math.isfinite(far[nearest]):
            why += f"; nearest are {nearest}'s, {far[nearest]:.3g} off"
        if self.key is None:
            said = "no name told which model this is; nearest are"
            why += f"; {said} {nearest}'s" if math.isfinite(far[nearest]) else ""
        found = [[round(float(value), 4) for value in row] for row in logits]
        state: State = "ok" if close else "differs"
        self.checks.append(Check("golden logits", state, found, entries[name].logits, why))
        self._answer(asked, name, entries[name].answer.strip())

    def _answer(self, asked: Asked, name: str, theirs: str) -> None:
        ours = asked.answer()
        if ours == theirs:
            why = f"{name}'s, character for character"
            self.checks.append(Check("golden answer", "ok", ours, theirs, why))
            return
        # Two logits that are each off by the tolerance may change places.
        slack = 2 * self.published.tolerance
        below = asked.reluctance(theirs)
        at = parting(ours, theirs)
        why = f"parts from {name}'s after {at} characters; given all before, its tokens lie "
        why += f"at most {below:.3g} below this model's first choice, allowed {slack:.3g}"
        state: State = "ok" if below <= slack else "differs"
        self.checks.append(Check("golden answer", state, ours[at:], theirs[at:], why))


def _unlike(config: ModelConfig, preset: ModelConfig) -> tuple[str, str]:
    """Fields that differ, found and expected, but for those that have rows of their own."""
    own = {"vocab_size", "tied_embeddings", "tower.num_layers"}
    found, right = [], []
    for part, values in preset.to_dict().items():
        for field, expected in values.items():
            value = config.to_dict()[part][field]
            if value != expected and not {field, f"{part}.{field}"} & own:
                found.append(f"{part}.{field} {value}")
                right.append(f"{part}.{field} {expected}")
    return ", ".join(found), ", ".join(right)


def _not_finite(reader: ArrayReader | HuggingFaceFolder, params: tuple[Param, ...]) -> list[str]:
    """Parameters that hold a NaN or an infinity; all weights are read once through."""
    found: list[str] = []
    every = [b for p in params for b in blocks(p, reader.dtype(p).itemsize)]
    with progress() as bar:
        task = bar.add_task("reading weights", total=len(every))
        for block, sound in ahead(lambda block: finite(reader.read(block)), every):
            name = ".".join(block.param.weight.path)
            name += "" if block.layer is None else f" of layer {block.layer}"
            if not sound and name not in found:
                found.append(name)
            bar.advance(task)
    return found


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return str(value)
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
