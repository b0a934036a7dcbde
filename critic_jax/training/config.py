"""A training run as one dataclass, read from a Python file and overridden by field."""

from __future__ import annotations

import difflib
import re
import runpy
import traceback
from collections import deque
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

import tyro

from critic_jax.data.selection import Part
from critic_jax.errors import InputError
from critic_jax.training.values import check_values, word_fault


@dataclass(frozen=True)
class TrainConfig:
    """Supervised fine-tuning of a critic.

    A step holds `global_batch` records in at most `rows` rows of `row_tokens` tokens and
    `row_tiles` tiles. Raises InputError for a value that makes no sense by itself.
    """

    init: str
    """checkpoint folder, ours or Hugging Face's, to start from"""
    data: str
    """records: JSONL or JSON with id, source, conversations, image; or the folder of an import"""
    output: str
    """folder of the run: metrics.jsonl, state/ (to resume from) and critic/ (the result)"""
    labels: Literal["answer", "upstream-sft", "upstream-dpo"] = "answer"
    """which tokens count in the loss"""
    global_batch: int = 32
    rows: int = 32
    row_tokens: int = 16384
    row_tiles: int = 64
    epochs: int = 1
    learning_rate: float = 2e-6
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    beta2: float = 0.999
    clip_norm: float = 1.0
    tower_rate: float | None = None
    """multiplies the tower's learning rate; 0 freezes it; by default 1, or 0 with adapters"""
    projector_rate: float | None = None
    """the same of the projector, and of the newline vector"""
    decoder_rate: float | None = None
    """the same of the decoder, with embedding and head"""
    adapters: Literal["none", "lora", "qlora"] = "none"
    """train low-rank adapters; qlora: on kernels of the decoder that are held in four bits"""
    lora_rank: int = 64
    lora_alpha: float = 128.0
    """adapters count alpha / rank times"""
    lora_layers: tuple[str, ...] = ("decoder.*",)
    """what has an adapter: patterns over names such as decoder.q, decoder.down, tower.fc1"""
    moments: Literal["float32", "bfloat16"] = "float32"
    """of Adam, as they are held between steps"""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """of the computation, and of what is frozen; what is trained is held in float32"""
    parts: Annotated[tuple[Part, ...], tyro.conf.Suppress] = ()
    """instead of data: parts of imports to mix, by weight, filter and sample"""
    share_trunks: bool = True
    """records of one picture share its tokens, and so a step; False: each alone, in plain order"""
    drop_oversize: bool = False
    """leave out records larger than a row (plan.json names them); else they stop the run"""
    validation: float = 0.0
    """share of the pictures whose records are held out; their loss is taken at every saved state"""
    validation_judged: int = 0
    """of the records held out, how many the critic judges at every saved state"""
    loader_workers: int = 0
    """processes that build batches ahead; 0: threads of this one"""
    seed: int = 0
    save_every: int = 200
    """steps between saved states"""
    loss_mean: Literal["record", "token"] = "record"
    """a step's loss is the mean over its records of each one's mean, or over all its tokens"""
    remat: Literal["none", "products", "block", "offload"] = "block"
    """the backward pass finds all activations, or each layer's input alone, or that on the host"""
    accumulate: int = 1
    """parts that a step's rows are worked on in, one after the other"""
    data_parallel: int = 1
    """devices along the mesh axis data: parameters are held whole, rows are shared"""
    fsdp: int = 0
    """along fsdp: parameters and rows are shared; 0: as many as the other two leave"""
    tensor: int = 1
    """along tensor: heads, ffn, vocabulary and, between the layers, tokens are shared"""

    # Going on, and looking on.
    keep_states: int = 2
    """newest states that are kept"""
    profile: str = ""
    """steps to trace into output/profile: 10:13 for 10, 11 and 12"""

    def __post_init__(self) -> None:
        check_values(self)


@dataclass(frozen=True)
class DpoConfig(TrainConfig):
    """Direct preference optimisation (arXiv 2305.18290) on pairs of answers.

    The fields of supervised training, with a pair for a record: a step holds `global_batch` pairs.
    `data` are lines with id, image, prompt, chosen and rejected. `parts` and `loss_mean` have no
    meaning here.
    """

    learning_rate: float = 5e-7
    warmup_ratio: float = 0.1
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """DPO's own, or that of IPO (arXiv 2310.12036)"""
    beta: float = 0.1
    """how much a change of log-probability counts as reward"""
    label_smoothing: float = 0.0
    """the share of pairs that are taken to be the wrong way round; for the sigmoid loss"""
    alpha: float = 1.0
    """what the preference loss is multiplied by"""
    gamma: float = 0.0
    """what the supervised loss of the chosen answers is multiplied by, and then added"""
    reference: str = ""
    """checkpoint whose log-probabilities answers are held against; by default that of init"""


@dataclass(frozen=True)
class AlignConfig(DpoConfig):
    """Rounds of preference training: answers are sampled, ranked, and learned from.

    The fields of `DpoConfig` say how each round trains; `data` are prompts, lines with id, prompt
    and optionally image. One of `judge`, `scores`, `preferences` and `reward_function` says what an
    answer is worth.
    """

    rounds: int = 3
    judge: str = ""
    """critic that ranks the answers: a folder or a hub id; or the name of a model at endpoint"""
    endpoint: str = ""
    """URL of an OpenAI-style endpoint that judges instead; its key in OPENAI_API_KEY"""
    template: str = "llava-bench"
    """the pairwise template that the judge is asked with"""
    scores: str = ""
    """file of a reward model's scores: id, response and score a line"""
    preferences: str = ""
    """file of people's preferences: id, response_a, response_b and verdict a line"""
    reward_function: str = ""
    """Python function that scores answers, such as my_rewards.length"""
    answers: int = 5
    """sampled for each prompt, in every round anew"""
    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 512
    """an answer is cut after this many tokens"""
    memory: str = ""
    """for keys and values of policy and judge, such as 12GB; by default as critic-jax generate"""
    start: Literal["previous", "original"] = "previous"
    """what a round trains: the policy of the round before, or init"""
    reference: str = "round"
    """what answers are held against: round, what the round trains; original, init; or a checkpoint
    """
    keep_pairs: bool = False
    """train on the pairs of earlier rounds too"""
    min_margin: float = 0.0
    """drop prompts whose best answer has less than this much more reward than the worst"""
    max_unparsed: float = 0.25
    """drop prompts of which more than this share of judgments could not be read"""
    compared: int = 64
    """prompts whose answers before and after each round are compared; 0: none"""


def load_config(
    name: str, overrides: list[str], kind: type[TrainConfig] = TrainConfig
) -> TrainConfig:
    """The config of a training run, as `read_config` finds it."""
    config: TrainConfig = read_config(name, overrides, kind)
    return config


def read_config(name: str, overrides: list[str], *kinds: type[Any]) -> Any:
    """The config of a Python file (a path, or the name of a packaged one).

    `overrides` are words `--field value`. The file defines `config`, of one of the classes `kinds`.
    Raises InputError for an unknown file or field, a file that fails, and a value without sense.
    """
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name}: is a folder; a config is a Python file")
    if not path.exists():
        packaged = files("critic_configs")
        modules = [p.name for p in packaged.iterdir() if p.name.endswith(".py")]
        known = sorted(m.removesuffix(".py") for m in modules if not m.startswith("_"))
        if name not in known:
            raise InputError(f"no config {name}: neither a file nor one of {', '.join(known)}")
        path = Path(str(packaged.joinpath(f"{name}.py")))
    config = _run(path, kinds).get("config")
    if type(config) not in kinds:
        right = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        raise InputError(f"{path}: must define `config`, a {right}")
    if not overrides:
        return config
    _check_words(overrides, type(config))
    return tyro.cli(
        type(config),
        default=config,
        args=overrides,
        prog=f"critic-jax {name}",
        config=(tyro.conf.FlagConversionOff,),  # every field is a word and its value
    )


def _run(path: Path, kinds: tuple[type[Any], ...]) -> dict[str, Any]:
    """What a config's file defines. Raises InputError that names the line where it fails."""
    try:
        return runpy.run_path(str(path))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == str(path)), None)
        said = str(error)
        if isinstance(error, SyntaxError):
            line, said = error.lineno, f"is no Python ({error.msg})"
        elif unknown := re.match(r"(\w+)\.__init__\(\) .* keyword argument '(\w+)'", said):
            hints = [_hint(unknown[2], kind) for kind in kinds if kind.__name__ == unknown[1]]
            said = f"{unknown[1]} has no field {unknown[2]}{''.join(hints)}"
        elif not isinstance(error, InputError):
            said = f"{type(error).__name__}: {said}"
        raise InputError(f"{path}{f' line {line}' if line else ''}: {said}") from None


def _check_words(words: list[str], kind: type[Any]) -> None:
    """Raises InputError for words that are not fields of `kind`, each with a value of its type."""
    hints = get_type_hints(kind, include_extras=True)
    waiting = deque(words)
    while waiting and (word := waiting.popleft()) not in ("-h", "--help"):
        name, equals, value = word.partition("=")
        field = name[2:].replace("-", "_")
        if not name.startswith("--"):
            raise InputError(f"{word!r}: a field stands in front of its value: --field value")
        if field not in (f.name for f in fields(kind)):
            raise InputError(f"no field --{field}{_hint(field, kind, '--')}")
        hint = hints[field]
        if get_origin(hint) is Annotated:
            raise InputError(f"{name}: is no field of a command line; set it in a config's file")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise InputError(f"{name}: has no value; it should be {name} VALUE")
            value = waiting.popleft()
        while get_origin(hint) is tuple and waiting and not waiting[0].startswith("--"):
            waiting.popleft()
        if (right := word_fault(value, hint)) is not None:
            raise InputError(f"{name} {value!r}: it should be {right}")


def _hint(field: str, kind: type[Any], dashes: str = "") -> str:
    """What the field that there is not may have been meant to be."""
    names = [f.name for f in fields(kind)]
    near = difflib.get_close_matches(field, names, 1)
    return f"; did you mean {dashes}{near[0]}?" if near else f"; fields: {', '.join(names)}"
