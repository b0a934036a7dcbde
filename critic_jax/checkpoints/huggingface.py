"""A Hugging Face folder of LLaVA-OneVision or LLaVA-Critic weights, seen through the table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from critic_jax.checkpoints.blocks import Block, Param, parameters
from critic_jax.checkpoints.hf_config import read_config, read_json
from critic_jax.checkpoints.hub import model_name
from critic_jax.checkpoints.tensor_files import TensorFiles
from critic_jax.checkpoints.weights import LAYOUTS, ParamPath, detect_layout
from critic_jax.errors import InputError
from critic_jax.models.build import Params, abstract, get_in, set_in
from critic_jax.progress import progress
from critic_jax.sharding import param_shardings
from critic_jax.text import ChatTokenizer

# What is kept of a folder beside weights and tokenizer, to be given back on export.
SETTINGS = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)


# (path, parameter, its logical axes) -> what is held of it
Hold = Callable[[ParamPath, jax.Array, tuple[str | None, ...]], Any]


class HuggingFaceFolder:
    """Config and tensors, all checked by name, type and shape before anything is read.

    Attributes: `config`, `geometry`; `params`, in the table's order; `layout`, a key of `LAYOUTS`;
    `passed_over`, names of tensors that the model has no use for.
    """

    def __init__(self, folder: Path) -> None:
        """Raises InputError for tensors that are missing, surplus or mis-shaped."""
        self.folder = folder
        self.config, self.geometry = read_config(folder)
        self._files = TensorFiles(folder)
        names = self._files.tensors
        layout = detect_layout(names)
        if layout is None:
            raise InputError(f"{folder}: the tensor names are of no known LLaVA-OneVision layout")
        self.layout = layout
        self.params = parameters(self.config)
        self.passed_over = self._check_names()
        for param in self.params:
            self._check_shapes(param)

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors."""
        return self._files.files

    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer beside the weights. Raises InputError if it has more ids than rows."""
        tokenizer = ChatTokenizer.load(self.folder)
        rows = self.config.decoder.vocab_size
        if tokenizer.vocab_size > rows:
            raise InputError(
                f"{self.folder}: the tokenizer has {tokenizer.vocab_size} ids, "
                f"the embedding {rows} rows; it must have as many or more"
            )
        return tokenizer

    def meta(self, source: str) -> dict[str, Any]:
        """What a checkpoint remembers of the folder: where from, layout, types, settings."""
        kept = {name: self.folder / name for name in SETTINGS}
        generation = self.folder / "generation_config.json"
        return {
            "name": model_name(source),
            "from": source,
            "layout": self.layout,
            "dtype": ", ".join(sorted({self.dtype(p).name for p in self.params})),
            "generation": read_json(generation) if generation.exists() else {},
            "source": {n: read_json(p) for n, p in kept.items() if p.exists()},
        }

    def keys(self, param: Param) -> list[str]:
        """The names of a parameter's tensors, in layer order."""
        return param.weight.keys(LAYOUTS[self.layout])

    def dtype(self, param: Param) -> np.dtype:
        """What all tensors of the parameter are stored as."""
        return self._files.dtype(self.keys(param)[0])

    def read(self, block: Block) -> np.ndarray:
        """A block as torch's tensor has it."""
        key = self.keys(block.param)[block.layer or 0]
        rows = block.rows
        whole = (rows.start, rows.stop) == (0, self._files.tensors[key].shape[0])
        return self._files.read(key) if whole else self._files.read(key, rows)

    def part(self, param: Param, index: tuple[slice, ...]) -> np.ndarray:
        """What `index` cuts out of a whole parameter, read from its tensors and little else."""
        cut = [range(*s.indices(n)) for s, n in zip(index, param.shape, strict=True)]
        keys = self.keys(param)
        if not param.weight.layers:
            return self._part(param, keys[0], cut)
        out = np.empty([len(c) for c in cut], self.dtype(param))
        for row, layer in zip(out, cut[0], strict=True):
            row[...] = self._part(param, keys[layer], cut[1:])
        return out

    def _part(self, param: Param, key: str, cut: list[range]) -> np.ndarray:
        weight, each = param.weight, param.each
        stored = self._files.tensors[key].shape
        if not weight.inputs:
            if len(stored) == len(each):
                return self._files.read(key, *map(_slice, cut))
            return weight.read(self._files.read(key), each)[tuple(map(_slice, cut))]
        # Either side of the map is flattened in the tensor: the first axis of a side bounds what
        # is read, the side's other axes are cut afterwards.
        sides = [(cut[a], each[a]) for a in (slice(weight.inputs), slice(weight.inputs, None))]
        spans = [(len(c[0]), *s[1:]) for c, s in sides]
        inputs, outputs = (
            slice(c[0].start * math.prod(s[1:]), c[0].stop * math.prod(s[1:])) for c, s in sides
        )
        if weight.stored:
            tensor = self._files.read(key, outputs)
            tensor = tensor.reshape(len(tensor), -1)[:, inputs]
        else:
            tensor = self._files.read(key, outputs, inputs)
        rest = [(slice(None), *map(_slice, c[1:])) for c, _ in sides]
        return weight.read(tensor, (*spans[0], *spans[1]))[(*rest[0], *rest[1])]

    def _check_names(self) -> list[str]:
        present = set(self._files.tensors)
        wanted = {k for p in self.params for k in self.keys(p)}
        missing = sorted(wanted - present)
        if missing:
            raise InputError(
                f"{self.folder}: {len(missing)} tensors missing, the first is {missing[0]}"
            )
        surplus = sorted(present - wanted)
        unknown = [name for name in surplus if not self._unused(name)]
        if unknown:
            raise InputError(
                f"{self.folder}: {len(unknown)} unknown tensors, the first is {unknown[0]}"
            )
        return surplus

    def _unused(self, name: str) -> bool:
        """Whether a tensor may stand in a sound checkpoint although the model has no place for it.

        Rotary constants, which are computed; the copy of a tied head; and of a whole SigLIP tower
        the layers and the pooling that LLaVA cuts off.
        """
        prefix, layer = LAYOUTS[self.layout], r"encoder\.layers\.(\d+)\."
        if name.endswith("inv_freq") or name.startswith(prefix["tower"] + "head."):
            return True
        if name == prefix["head"] + "lm_head.weight":
            return self.config.decoder.tied_embeddings
        found = re.match(re.escape(prefix["tower"]) + layer, name)
        return found is not None and int(found[1]) >= self.config.tower.num_layers

    def _check_shapes(self, param: Param) -> None:
        expected = param.weight.stored_shape(param.each)
        dtype = self.dtype(param)
        for key in self.keys(param):
            found = self._files.tensors[key]
            if found.shape != expected:
                raise InputError(
                    f"{found.file}: tensor {key} has shape {list(found.shape)}, "
                    f"the config asks for {list(expected)}"
                )
            if self._files.dtype(key) != dtype:
                raise InputError(
                    f"{found.file}: tensor {key} is {self._files.dtype(key)}, "
                    f"that of another layer is {dtype}; layers must agree"
                )


def _slice(cut: range) -> slice:
    return slice(cut.start, cut.stop)


def read_params(folder: HuggingFaceFolder, mesh: Mesh, hold: Hold | None = None) -> Params:
    """All parameters as stored, each device's slices read straight from the files.

    The host holds one device's share of one parameter at a time. `hold` may turn each parameter
    into something smaller before the next one is read.
    """
    shardings = param_shardings(abstract(folder.config)[1], mesh)
    params: Params = {}
    with progress() as bar:
        for param in bar.track(folder.params, description="loading"):
            sharding = get_in(shardings, param.weight.path)
            placed = _place(folder, param, sharding)
            held = hold(param.weight.path, placed, param.axes) if hold else placed
            set_in(params, param.weight.path, held)
    return params


def _place(folder: HuggingFaceFolder, param: Param, sharding: Any) -> jax.Array:
    held: dict[tuple[Any, ...], jax.Array] = {}
    pieces = []
    for device, index in sharding.addressable_devices_indices_map(param.shape).items():
        key = tuple((s.start, s.stop) for s in index)
        # Copies of a slice go from device to device, not through the files again.
        piece = jax.device_put(held[key] if key in held else folder.part(param, index), device)
        held.setdefault(key, piece.block_until_ready())
        pieces.append(piece)
    return jax.make_array_from_single_device_arrays(param.shape, sharding, pieces)
