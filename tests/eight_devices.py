"""A program: a Hugging Face folder loaded onto eight devices, in each way of splitting it.

Run by a test in a process of its own, because the number of devices is settled when JAX starts.
Prints which meshes hold the right values, their fingerprints, how many pieces were read, and the
largest of them over a device's share of its parameter.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np

from critic_jax.checkpoints import load_checkpoint
from critic_jax.checkpoints.blocks import Param, parameters
from critic_jax.checkpoints.huggingface import HuggingFaceFolder
from critic_jax.models.build import abstract, get_in
from critic_jax.sharding import make_mesh, param_shardings

MESHES = {
    "data": {"data": 8, "fsdp": 1, "tensor": 1},
    "fsdp": {"data": 2, "fsdp": 4, "tensor": 1},
    "tensor": {"data": 4, "fsdp": 1, "tensor": 2},
    "fsdp x tensor": {"data": 1, "fsdp": 4, "tensor": 2},
}


def main() -> None:
    folder = sys.argv[1]
    expected = jax.tree.map(np.asarray, load_checkpoint(folder, make_mesh(data=8, fsdp=1)).params)
    read: list[tuple[tuple[str, ...], int]] = []
    part = HuggingFaceFolder.part

    def watched(self: HuggingFaceFolder, param: Param, index: tuple[slice, ...]) -> np.ndarray:
        values = part(self, param, index)
        read.append((param.weight.path, values.size))
        return values

    HuggingFaceFolder.part = watched
    equal, fingerprints, ratios = [], [], []
    for name, sizes in MESHES.items():
        mesh = make_mesh(**sizes)
        read.clear()
        checkpoint = load_checkpoint(folder, mesh)
        shardings = param_shardings(abstract(checkpoint.config)[1], mesh)
        shapes = {p.weight.path: p.shape for p in parameters(checkpoint.config)}
        for path, size in read:
            share = get_in(shardings, path).shard_shape(shapes[path])
            ratios.append(size / np.prod(share))
        # A slice that several devices hold is read once.
        assert len(read) == sum(
            np.prod(shape) // np.prod(get_in(shardings, path).shard_shape(shape))
            for path, shape in shapes.items()
        )
        same = jax.tree.map(
            lambda a, b: np.array_equal(np.asarray(a), b), checkpoint.params, expected
        )
        if all(jax.tree.leaves(same)):
            equal.append(name)
        fingerprints.append(checkpoint.fingerprint())
    found = {
        "equal": equal,
        "fingerprints": fingerprints,
        "pieces": len(ratios),
        "largest_over_share": max(ratios),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
