"""Compile a config's steps for a topology and say what they need."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from rich.progress import Progress

from critic_jax.aot.collectives import collective_bytes
from critic_jax.aot.operations import operations
from critic_jax.aot.program import Program
from critic_jax.aot.programs import PROGRAMS, stated, with_row_tokens
from critic_jax.aot.topology import Topology, topology
from critic_jax.checkpoints.blocks import parameters, parts_of
from critic_jax.checkpoints.store import read_sizes
from critic_jax.errors import InputError
from critic_jax.models.config import PRESETS, ModelConfig
from critic_jax.progress import progress
from critic_jax.sampling.config import SamplingConfig
from critic_jax.sharding import make_mesh
from critic_jax.training.config import TrainConfig, read_config

GRAIN = 2048
"""Row sizes that a search tries are multiples of this."""

LARGEST = 2**17
"""The longest rows that a search tries."""


Config = TrainConfig | SamplingConfig


@dataclass(frozen=True)
class Needs:
    """What a compiled step needs; bytes and operations are of one device.

    A device is a chip; of v4 and v7x it is half a chip. None: for want of memory the compiler gave
    up before it could tell.

    chips: those that run it together: all of the slice, or of a round that samples one replica.
    peak_bytes: the most that is in use at once: arguments, temporary arrays, the program itself.
    temp_bytes: what of it is neither argument nor result.
    host_bytes: memory of the host that a device uses (remat "offload").
    fits: the compiler found room, and peak_bytes is within the chip's memory.
    flops: of matrix products, those that are computed again included; see `operations`.
    collective_bytes: see `collectives.collective_bytes`.
    """

    chips: int
    tokens_per_chip: int
    argument_bytes: int | None
    temp_bytes: int | None
    peak_bytes: int | None
    host_bytes: int | None
    hbm_bytes: int
    fits: bool
    flops: int
    collective_bytes: dict[str, int] | None
    compile_seconds: float


def aot(
    name: str,
    topology_name: str,
    model: str | None = None,
    search: bool = False,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """What the config `name` needs on a topology, by step; see `Needs` for the fields.

    `model` stands for the config's `init`: a preset's name, a checkpoint's folder or a hub id. With
    `search` rows are made as long as they can be. Raises InputError for a wrong config, topology or
    mesh.
    """
    config = read_config(name, overrides or [], *PROGRAMS)
    slice_ = topology(topology_name)
    sizes = model_sizes(model or config.init)
    with progress() as bar:
        if search:
            config = largest_rows(config, sizes, slice_, bar)
        steps = {
            step: needs(make, config, sizes, slice_, bar, step)
            for step, make in PROGRAMS[type(config)].items()
        }
    mesh = _mesh(config, slice_)
    return {
        "topology": topology_name,
        "device_kind": slice_.kind,
        "chips": slice_.chips,
        "mesh": dict(mesh.shape),
        "parameters": parameter_count(sizes),
        **stated(config, sizes, mesh),
        "steps": {step: dataclasses.asdict(needed) for step, needed in steps.items()},
    }


def needs(
    make: Any,
    config: Config,
    model: ModelConfig,
    slice_: Topology,
    bar: Progress,
    step: str,
) -> Needs:
    """Compile a step and measure it."""
    program: Program = make(config, model, _mesh(config, slice_))
    task = bar.add_task(f"{step}: compiling rows of {config.row_tokens} tokens", total=None)
    began = time.perf_counter()
    traced = program.function.trace(*program.arguments)
    devices = program.devices
    done = operations(traced.jaxpr.jaxpr, "tpu") // devices
    chips = devices * slice_.chips // len(slice_.devices)
    tokens = program.tokens // chips
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        seconds = round(time.perf_counter() - began, 1)
        asked = _asked(str(error))
        return Needs(
            chips, tokens, None, None, asked, None, slice_.hbm_bytes, False, done, None, seconds
        )
    finally:
        bar.remove_task(task)
    seconds = round(time.perf_counter() - began, 1)
    memory = compiled.memory_analysis()
    # The new state is written into the old one's memory. The compiler's own sum of temporary arrays
    # is of no use: it adds up arrays that take turns in one place.
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = memory.peak_memory_in_bytes + memory.generated_code_size_in_bytes
    return Needs(
        chips=chips,
        tokens_per_chip=tokens,
        argument_bytes=memory.argument_size_in_bytes,
        temp_bytes=peak - kept,
        peak_bytes=peak,
        host_bytes=memory.host_temp_size_in_bytes + memory.host_argument_size_in_bytes,
        hbm_bytes=slice_.hbm_bytes,
        fits=peak <= slice_.hbm_bytes,
        flops=done,
        collective_bytes=collective_bytes(compiled.as_text()),
        compile_seconds=seconds,
    )


def largest_rows(config: Config, model: ModelConfig, slice_: Topology, bar: Progress) -> Config:
    """The config with the longest rows with which all its steps fit: multiples of `GRAIN` tokens,
    as many tiles for each token as before.

    Raises InputError if none fit.
    """

    def fit(grains: int) -> bool:
        tried = with_row_tokens(config, grains * GRAIN)
        return all(
            needs(make, tried, model, slice_, bar, step).fits
            for step, make in PROGRAMS[type(config)].items()
        )

    good, bad = 0, LARGEST // GRAIN + 1
    grains = max(1, config.row_tokens // GRAIN)
    while bad - good > 1:
        if fit(grains):
            good = grains
        else:
            bad = grains
        # Outwards from where the config stands, then halfway between.
        grains = min(2 * good, bad - 1) if bad > LARGEST // GRAIN else (good + bad) // 2
    if not good:
        raise InputError(
            f"no rows of {GRAIN} tokens or more fit on {slice_.name}: take a larger slice, a "
            f"larger tensor, or fewer than {config.rows} rows"
        )
    return with_row_tokens(config, good * GRAIN)


def model_sizes(model: str) -> ModelConfig:
    """The sizes of a preset, of a checkpoint's folder, or of a hub id that names its size.

    No weights are read or downloaded. Raises InputError where they cannot be told.
    """
    if model in PRESETS:
        return PRESETS[model]()
    if Path(model).exists():
        return read_sizes(model)
    named = re.search(r"(?:^|[-/_])(0\.5b|7b|72b)(?:$|[-_@])", model.lower())
    if named is None:
        raise InputError(
            f"{model}: no such checkpoint folder, and its name tells no size; "
            f"give --model, one of {', '.join(PRESETS)} or a folder"
        )
    return PRESETS[named[1]]()


def parameter_count(model: ModelConfig) -> int:
    """Parameters of the whole model, tower included."""
    return sum(parts_of(parameters(model)).values())


def _mesh(config: Config, slice_: Topology) -> Mesh:
    return make_mesh(config.data_parallel, config.fsdp, config.tensor, slice_.devices)


def _asked(error: str) -> int | None:
    """Bytes that the compiler would have needed, where its refusal says so."""
    found = re.search(r"Used ([\d.]+)G of .* hbm|\(([\d.]+)G\) exceeds available HBM", error)
    return found and int(float(found[1] or found[2]) * 2**30)
