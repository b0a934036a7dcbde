"""What compiled programs send between chips, against programs that send a known amount."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from critic_jax.aot.collectives import KINDS, collective_bytes
from critic_jax.aot.topology import topology
from critic_jax.sharding import make_mesh

SIDE = 1024
WHOLE = 4 * SIDE * SIDE  # bytes of the array, of which each of four devices holds a quarter


def gathered(x: jax.Array) -> jax.Array:
    return jax.lax.all_gather(x, "fsdp", axis=0, tiled=True)[: SIDE // 4] * 2


def added(x: jax.Array) -> jax.Array:
    return jax.lax.psum(x, "fsdp") * 2


def scattered(x: jax.Array) -> jax.Array:
    both = jax.lax.psum_scatter(x, "fsdp", scatter_dimension=0, tiled=True)
    return jnp.tile(both, (4, 1))


def exchanged(x: jax.Array) -> jax.Array:
    return jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True).reshape(x.shape)


def passed(x: jax.Array) -> jax.Array:
    return jax.lax.ppermute(x, "fsdp", [(n, (n + 1) % 4) for n in range(4)]) * 2


SENT = {
    gathered: ("all-gather", WHOLE),
    added: ("all-reduce", WHOLE // 4),
    scattered: ("reduce-scatter", WHOLE // 4),
    exchanged: ("all-to-all", WHOLE // 4),
    passed: ("collective-permute", WHOLE // 4),
}


@pytest.mark.parametrize("rounds", [1, 7])
@pytest.mark.parametrize("send", SENT, ids=lambda send: send.__name__)
def test_what_is_sent_counts_as_often_as_it_is(
    send: Callable[[jax.Array], jax.Array], rounds: int
) -> None:
    mesh = make_mesh(devices=topology("v5e:2x2").devices)
    sharding = NamedSharding(mesh, PartitionSpec("fsdp"))

    def run(x: jax.Array) -> jax.Array:
        one = jax.shard_map(
            send,
            mesh=mesh,
            in_specs=PartitionSpec("fsdp"),
            out_specs=PartitionSpec("fsdp"),
            check_vma=False,
        )
        # A sine between the rounds, or they might be joined.
        return jax.lax.fori_loop(0, rounds, lambda _, x: jnp.sin(one(x)), x)

    x = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32, sharding=sharding)
    text = jax.jit(run, out_shardings=sharding).lower(x).compile().as_text()
    kind, size = SENT[send]
    assert collective_bytes(text) == dict.fromkeys(KINDS, 0) | {kind: rounds * size}


def test_pieces_of_one_collective_count_once() -> None:
    """As the compiler writes one that other work overlaps, in a loop whose counter goes by two."""
    text = """
HloModule step

%start (a: bf16[8,4]) -> bf16[32,4] {
  %a = bf16[8,4]{1,0} parameter(0)
  ROOT %g.1 = bf16[32,4]{1,0} all-gather(%a), channel_id=3, dimensions={0}
}

%done (a: bf16[8,4]) -> bf16[32,4] {
  %a = bf16[8,4]{1,0} parameter(0)
  ROOT %g.2 = bf16[32,4]{1,0} all-gather(%a), channel_id=3, dimensions={0}
}

%body (p: (bf16[8,4], u32[])) -> (bf16[8,4], u32[]) {
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %x = bf16[8,4]{1,0} get-tuple-element(%p), index=0
  %n = u32[]{:T(128)} get-tuple-element(%p), index=1
  %two = u32[]{:T(128)} constant(2)
  %f.1 = bf16[32,4]{1,0} fusion(%x), kind=kCustom, calls=%start
  %f.2 = bf16[32,4]{1,0} fusion(%x), kind=kCustom, calls=%done
  %next = u32[]{:T(128)} add(%n, %two)
  ROOT %t = (bf16[8,4]{1,0}, u32[]{:T(128)}) tuple(%x, /*index=1*/%next)
}

%until (p: (bf16[8,4], u32[])) -> pred[] {
  %p = (bf16[8,4]{1,0}, u32[]) parameter(0)
  %n.1 = u32[]{:T(128)} get-tuple-element(%p), index=1
  %end = u32[]{:T(128)} constant(16)
  ROOT %c = pred[]{:T(512)} compare(%n.1, %end), direction=LT
}

ENTRY %main (x: bf16[8,4]) -> bf16[8,4] {
  %x.1 = bf16[8,4]{1,0} parameter(0)
  %zero = u32[] constant(0)
  %init = (bf16[8,4]{1,0}, u32[]) tuple(%x.1, %zero)
  %w = (bf16[8,4]{1,0}, u32[]) while(%init), condition=%until, body=%body
  ROOT %r = bf16[8,4]{1,0} get-tuple-element(%w), index=0
}
"""
    assert collective_bytes(text)["all-gather"] == 8 * 2 * 32 * 4
