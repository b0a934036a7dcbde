"""What a run leaves behind: the trained critic, and adapters on their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from critic_jax.checkpoints import Checkpoint, save_checkpoint
from critic_jax.checkpoints.adapters import write_adapters
from critic_jax.checkpoints.arrays import ArrayWriter
from critic_jax.checkpoints.blocks import Block, Param, blocks, parameters
from critic_jax.checkpoints.fingerprint import WeightsDigest
from critic_jax.checkpoints.publish import published
from critic_jax.checkpoints.store import (
    MANIFEST,
    open_checkpoint,
    send_checkpoint,
    write_manifest,
)
from critic_jax.hosts import is_first, wait_for_all
from critic_jax.models.build import get_in
from critic_jax.models.nf4 import dense
from critic_jax.progress import progress
from critic_jax.training.run_folder import RunFolder
from critic_jax.training.sft import TrainState
from critic_jax.training.tuning import Path as ParamPath
from critic_jax.training.tuning import Tuning


def write_result(
    folder: RunFolder,
    init: str,
    start: Checkpoint,
    state: TrainState,
    tuning: Tuning,
    mesh: Mesh,
    meta: dict[str, Any],
    name: str = "critic",
) -> Path:
    """Write the model `name`, and where there are adapters `adapters`; returns the model's place.

    start: what was trained, without its parameters. What is frozen is read from `init` once more,
    so that it keeps its bits. On several processes all take part.
    """
    if "frozen" not in state:
        params = state["params"]
        whole = Checkpoint(start.config, start.geometry, params, start.tokenizer, meta)
        if folder.url is not None:
            send_checkpoint(folder.place(name), whole)
        else:
            save_checkpoint(folder.here / name, whole)
        folder.send()
        return Path(folder.place(name))
    critic = folder.here / name
    source = _Source(state, tuning, mesh)
    if tuning.lora is not None:
        adapters = jax.tree.map(lambda v: _fetched(v, mesh), state["params"])
        if is_first():
            write_adapters(folder.here / "adapters", start.config, tuning.lora, adapters, init)
    if is_first():
        _write_merged(critic, init, source, meta)
    else:
        source.take_part(parameters(start.config))
    folder.send()
    wait_for_all(f"{critic.name} written")
    return Path(folder.place(name))


def _write_merged(path: Path, init: str, source: _Source, meta: dict[str, Any]) -> None:
    """Write the model with adapters merged, a layer of one kernel in memory at a time.

    What was trained and what is merged is written in float32, the rest as it is stored in `init`.
    """
    read, manifest, tokenizer = open_checkpoint(init)
    params = parameters(manifest.config)
    digest = WeightsDigest()
    with published(path, MANIFEST) as building, progress() as bar:
        with ArrayWriter(building / "params") as writer:
            for param in params:
                changed = source.changed(param.weight.path)
                writer.create(param, np.dtype(np.float32) if changed else read.dtype(param))
            for param in bar.track(params, description="writing the critic"):
                for block, values in source.blocks(param, read):
                    digest.add(block, param.weight.tensor(values))
                    writer.write(block, values)
        tokenizer.save(building / "tokenizer")
        write_manifest(building, manifest.config, manifest.geometry, meta, digest.hexdigest())


class _Source:
    """The trained model's parameters, block by block: those that changed from the devices."""

    def __init__(self, state: TrainState, tuning: Tuning, mesh: Mesh) -> None:
        self._state, self._tuning, self._mesh = state, tuning, mesh

    def changed(self, path: ParamPath) -> bool:
        """Whether a parameter is another than the start's: trained, merged, or in four bits."""
        tuning = self._tuning
        return bool(tuning.rate(path)) or self._adapted(path) or tuning.in_four_bits(path)

    def blocks(self, param: Param, read: Any) -> Iterator[tuple[Block, np.ndarray]]:
        """Every block of a parameter, and its values in the parameter's own layout.

        read: what reads the start's blocks.
        """
        weight = param.weight
        if not self.changed(weight.path):
            for block in blocks(param, read.dtype(param).itemsize):
                yield block, weight.read(read.read(block), block.shape)
            return
        layer: int | None = -1
        values = np.empty(0)
        for block in blocks(param, np.dtype(np.float32).itemsize):
            if block.layer != layer:
                layer, values = block.layer, self._layer(param, block.layer, read)
            yield block, np.ascontiguousarray(values[_place(block)])

    def take_part(self, params: Sequence[Param]) -> None:
        """What a process does that writes nothing: help to bring each layer together."""
        for param in params:
            if self.changed(param.weight.path):
                for layer in range(param.weight.layers) if param.weight.layers else (None,):
                    self._fetch(param.weight.path, layer)

    def _layer(self, param: Param, layer: int | None, read: Any) -> np.ndarray:
        """float32, a layer of a parameter (or all of one that has none) that changed."""
        path = param.weight.path
        base, *adapter = self._fetch(path, layer)
        if not adapter:
            return base
        if base is None:
            base = np.empty(param.each, np.float32)
            for block in blocks(param, read.dtype(param).itemsize):
                if block.layer == layer:
                    base[_place(block)] = param.weight.read(read.read(block), block.shape)
        a, b = adapter
        assert self._tuning.lora is not None
        return base + np.tensordot(a, b, axes=1) * np.float32(self._tuning.lora.scale)

    def _adapted(self, path: ParamPath) -> bool:
        lora = self._tuning.lora
        return lora is not None and path[-1] == "kernel" and lora.adapts(path[:-1])

    def _fetch(self, path: ParamPath, layer: int | None) -> list[Any]:
        """[values], or of an adapted kernel [what it was trained on, a, b]; the first may be None.

        In four bits it was trained on other values than the start's own.
        """
        base = None
        if self._tuning.in_four_bits(path):
            base = _fetched(get_in(self._state["frozen"], path), self._mesh, layer)
        trained = self._state["params"]
        if not self._adapted(path):
            return [_fetched(get_in(trained, path), self._mesh, layer) if base is None else base]
        adapter = get_in(trained, (*path[:-1], "adapter"))
        return [base, *(_fetched(adapter[name], self._mesh, layer) for name in "ab")]


def _place(block: Block) -> tuple[slice, ...]:
    """Where a block lies in its layer."""
    return (slice(None),) * block.param.weight.split + (block.part,)


def _fetched(value: Any, mesh: Mesh, layer: int | None = None) -> np.ndarray:
    """A parameter, or a layer of it, in float32 on every host."""
    return np.asarray(_take(value, layer, NamedSharding(mesh, PartitionSpec())))


@partial(jax.jit, static_argnums=2)
def _take(value: Any, layer: jax.Array | None, sharding: NamedSharding) -> jax.Array:
    if layer is not None:
        value = jax.tree.map(lambda v: v[layer], value)
    return jax.lax.with_sharding_constraint(dense(value, jnp.dtype(jnp.float32)), sharding)
