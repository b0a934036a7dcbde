"""A checkpoint's arrays on disk as Orbax lays them out, written and read block by block.

Orbax saves whole arrays, and holds a stacked one several times over while it does. Its format is
TensorStore's: a `zarr3` array a parameter in one OCDBT store, beside files that describe the tree.
Those are written last: a folder without them is not taken for a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore as ts
from etils import epath

from critic_jax.checkpoints.blocks import BLOCK, Block, Param, ahead, parameters
from critic_jax.errors import InputError
from critic_jax.models.config import ModelConfig
from critic_jax.remote import url_of

# Where Orbax keeps a tree that is saved on its own.
_ITEM = "state"
_HANDLER = "orbax.checkpoint.experimental.v1._src.handlers.pytree_handler.PyTreeHandler"
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CHECKED = [_BYTES, {"name": "crc32c"}]


class ArrayWriter:
    """Writes parameters into a new folder. A context: on a good end Orbax can restore it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = ts.Context()
        self._arrays: dict[tuple[str, ...], Any] = {}
        self._group: Any = None  # the transaction that blocks go into, and their bytes
        self._grouped = 0
        self._pending: list[Any] = []
        (folder / _ITEM).mkdir(parents=True)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._finish()
            return
        if self._group is not None:
            self._group.abort()
        for commit in self._pending:  # nothing may be written behind the back of who clears away
            with contextlib.suppress(Exception):
                commit.result()

    def create(self, param: Param, dtype: np.dtype) -> None:
        """Make the array of a parameter, empty."""
        block, chunk = param.chunks(dtype.itemsize)
        inner = {"chunk_shape": chunk, "codecs": _CHECKED, "index_codecs": _CHECKED}
        metadata = {
            "shape": param.shape,
            "data_type": dtype.name,
            "fill_value": 0.0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": block}},
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        }
        spec = _spec(self._folder, param.weight.path) | {"metadata": metadata, "create": True}
        # Where all is zero, say so in bytes: a missing chunk would be damage to Orbax.
        spec["store_data_equal_to_fill_value"] = True
        self._arrays[param.weight.path] = ts.open(spec, context=self._context).result()

    def write(self, block: Block, values: np.ndarray) -> None:
        """Store a block, shaped as `block.shape`; the last few may still be on their way to disk.

        Many small blocks are committed together: each commit waits for the disk several times.
        """
        if self._group is None:
            self._group, self._grouped = ts.Transaction(), 0
        array = self._arrays[block.param.weight.path].with_transaction(self._group)
        array[block.index].write(values).result()
        self._grouped += values.nbytes
        if self._grouped >= BLOCK:
            self._commit(waiting=1)

    def _commit(self, waiting: int) -> None:
        """Send the group to disk; when this returns, `waiting` groups may still be under way."""
        if self._group is not None:
            self._pending.append(self._group.commit_async())
            self._group = None
        while len(self._pending) > waiting:
            self._pending.pop(0).result()

    def _finish(self) -> None:
        self._commit(waiting=0)
        tree = {
            str(path): {
                "key_metadata": [{"key": name, "key_type": 2} for name in path],
                "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
            }
            for path in self._arrays
        }
        now = time.time_ns()
        described = {
            "tree_metadata": tree,
            "use_ocdbt": True,
            "use_zarr3": True,
            "store_array_data_equal_to_fill_value": True,
            "custom_metadata": None,
        }
        checkpoint = {
            "item_handlers": {_ITEM: _HANDLER},
            "metrics": {},
            "performance_metrics": {},
            "init_timestamp_nsecs": now,
            "commit_timestamp_nsecs": now,
            "custom_metadata": {},
        }
        (self._folder / _ITEM / "_METADATA").write_text(json.dumps(described))
        (self._folder / "orbax.checkpoint").touch()
        (self._folder / "commit_success.txt").touch()
        (self._folder / "_CHECKPOINT_METADATA").write_text(json.dumps(checkpoint))


class ArrayReader:
    """Reads blocks of a checkpoint's parameters, whether `ArrayWriter` wrote it or Orbax."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        """Raises InputError for an array that is missing, or has another shape than `config`'s."""
        self._folder = folder
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        self._arrays: dict[tuple[str, ...], Any] = {}
        for param in parameters(config):
            name = ".".join(param.weight.path)
            try:
                array = ts.open(_spec(folder, param.weight.path), context=context).result()
            except ValueError as e:
                raise _unreadable(folder, f"array {name}: {first_line(e)}") from None
            if array.shape != param.shape:
                said = f"array {name} has shape {list(array.shape)}, not {list(param.shape)}"
                raise _unreadable(folder, said)
            self._arrays[param.weight.path] = array

    def dtype(self, param: Param) -> np.dtype:
        """What the parameter is stored as."""
        return self._arrays[param.weight.path].dtype.numpy_dtype

    def read(self, block: Block) -> np.ndarray:
        """A block as torch's tensor has it, contiguous. Raises InputError if it is damaged."""
        array, weight = self._arrays[block.param.weight.path][block.index], block.param.weight
        axes = list(range(array.ndim))
        # TensorStore turns it round while it copies chunk by chunk, which is quick; numpy would
        # stride over the whole block.
        turned = array.transpose([*axes[weight.inputs :], *axes[: weight.inputs]])
        try:
            values = turned.read(order="C").result()
        except ValueError as e:
            name = ".".join(weight.path)
            raise _unreadable(self._folder, f"array {name}: {first_line(e)}") from None
        return np.asarray(values).reshape(weight.stored_shape(block.shape))


def read_tree(folder: Path | epath.Path, shaped: Any) -> Any:
    """A tree that Orbax saved, each array laid out over devices as `shaped` has it.

    folder: here, or behind a URL that TensorStore reads, such as gs://bucket/state/12. Each process
    reads what its devices hold, and waits for no other. Raises ValueError for an array that is
    missing or damaged, InputError for one of another shape or type.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(shaped)
    context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})

    def read(leaf: tuple[Any, jax.ShapeDtypeStruct]) -> jax.Array:
        path, wanted = leaf
        array = ts.open(_spec(folder, tuple(map(_key, path))), context=context).result()
        if array.shape != wanted.shape or array.dtype.numpy_dtype != wanted.dtype:
            name = ".".join(map(_key, path))
            raise InputError(
                f"{folder}: of another model: array {name} is {array.dtype.name}"
                f"{list(array.shape)}, not {wanted.dtype.name}{list(wanted.shape)}"
            )
        parts: dict[str, np.ndarray] = {}  # devices may hold the same

        def part(index: Any) -> np.ndarray:
            if repr(index) not in parts:
                parts[repr(index)] = np.asarray(array[index].read().result())
            return parts[repr(index)]

        return jax.make_array_from_callback(wanted.shape, wanted.sharding, part)

    return jax.tree.unflatten(structure, [array for _, array in ahead(read, leaves)])


def _key(key: Any) -> str:
    """One key of a tree's path, as Orbax names arrays."""
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)


def _spec(folder: Path | epath.Path, path: tuple[str, ...]) -> dict[str, Any]:
    root = f"file://{folder.absolute()}" if url_of(folder) is None else str(folder)
    base = f"{root}/{_ITEM}/"
    kvstore = {"driver": "ocdbt", "base": base, "path": ".".join(path) + "/"}
    # What is read no longer changes: no need to ask a store for it again with every chunk.
    return {"driver": "zarr3", "kvstore": kvstore, "recheck_cached_data": "open"}


def _unreadable(folder: Path, said: str) -> InputError:
    return InputError(f"{folder}: not readable as this model's parameters ({said})")


def first_line(error: Exception) -> str:
    """What a library's error says, without what it repeats of its input."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.split(" [")[0][:300]  # in brackets TensorStore repeats all that it was told
