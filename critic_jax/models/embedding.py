"""Looking up word embeddings in a table that is spread over a mesh.

Letters: B rows, S tokens, V vocab, D model.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from critic_jax.sharding import ACTIVATIONS, MESH_AXES, RULES, mesh_size


def embed_tokens(table: jax.Array, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """table [V, D] at tokens [B, S] -> [B, S, D] in `dtype`; gradients add up in table's dtype.

    On a mesh no device ever holds the table: each looks up its piece of it for the rows of all the
    devices that share it, and what comes of it changes hands. That moves as much as the activations
    are large, where gathering the table would move [V, D], forward and, as a gradient, backward.
    """
    vocab, fsdp, tensor = table.shape[0], mesh_size("fsdp"), mesh_size("tensor")
    spread_vocab = vocab % tensor == 0 and tensor > 1
    if mesh_size(*MESH_AXES) == 1:
        return table[tokens].astype(dtype)
    # Too few rows to share: every device takes all of them.
    rows = ACTIVATIONS["rows"] if tokens.shape[0] % mesh_size(*ACTIVATIONS["rows"]) == 0 else None
    spread_tokens = tokens.shape[1] % tensor == 0

    def local(table: jax.Array, tokens: jax.Array) -> jax.Array:
        ids = jax.lax.all_gather(tokens, "fsdp", axis=0, tiled=True) if rows else tokens
        if spread_vocab:
            own = ids - jax.lax.axis_index("tensor") * table.shape[0]
            here = (own >= 0) & (own < table.shape[0])
            found = jnp.where(here[..., None], table[jnp.where(here, own, 0)], 0).astype(dtype)
            # One device has the row, the others add zeros.
            if spread_tokens:
                found = jax.lax.psum_scatter(found, "tensor", scatter_dimension=1, tiled=True)
            else:
                found = jax.lax.psum(found, "tensor")
        else:
            if spread_tokens:
                size = ids.shape[1] // tensor
                start = jax.lax.axis_index("tensor") * size
                ids = jax.lax.dynamic_slice_in_dim(ids, start, size, 1)
            found = table[ids].astype(dtype)
        if rows is None:
            return jax.lax.all_gather(found, "fsdp", axis=2, tiled=True)
        return jax.lax.all_to_all(found, "fsdp", split_axis=0, concat_axis=2, tiled=True)

    assert fsdp == 1 or table.shape[1] % fsdp == 0  # as param_shardings checks
    return jax.shard_map(
        local,
        in_specs=(
            PartitionSpec(RULES["vocab"] if spread_vocab else None, RULES["embed"]),
            PartitionSpec(rows, None),
        ),
        out_specs=PartitionSpec(rows, "tensor" if spread_tokens else None, None),
        check_vma=rows is not None,  # it cannot tell that what is gathered is everywhere the same
    )(table, tokens)
