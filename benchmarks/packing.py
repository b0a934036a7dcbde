"""How full rows are, what a step of 32 records needs on v5e:8x8, and what sharing trunks saves.

    python benchmarks/packing.py

Reads packing_lengths.npz, whose model packing_lengths.py states.
"""

from pathlib import Path

import numpy as np

from critic_jax.data.chosen import Chosen, forest
from critic_jax.data.corpus_rows import WINDOW
from critic_jax.data.plan import Budget, Plan
from critic_jax.data.planner import SEVEN_B, propose
from critic_jax.imaging import ImageGeometry, picture_tile_count, picture_token_count

ROW_TOKENS, ROW_TILES = 16_384, 19


def records(most: int | None = None, least: int = 1) -> Chosen:
    """The file's records: at most `most` of a picture, of pictures with `least` or more."""
    geometry = ImageGeometry()
    with np.load(Path(__file__).with_name("packing_lengths.npz")) as file:
        sizes, first, text, shared = (file[n] for n in ("sizes", "first", "text", "shared"))
    stops = [*first[1:].tolist(), len(text)]
    rows = []
    for (width, height), start, stop in zip(sizes.tolist(), first.tolist(), stops, strict=True):
        tokens = picture_token_count(width, height, geometry)
        tiles = picture_tile_count(width, height, geometry)
        if stop - start < least:
            continue
        for n in range(start, min(stop, start + (most or stop))):
            common = int(shared[n]) + tokens if n > start else 0
            rows.append((int(text[n]) + tokens, tiles, common))
    columns = np.array(rows, np.int32).T
    count = len(rows)
    zeros, numbers = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
    return Chosen((), zeros, numbers, *columns, np.ones(count))


def main() -> None:
    chosen = records()
    groups = forest(chosen, Budget(1, 1, ROW_TOKENS, ROW_TILES)).groups
    for rows in (1, 8):
        budget = Budget(10**6, rows, ROW_TOKENS, ROW_TILES)
        report = Plan(groups, budget, 0, WINDOW).report()
        print(
            f"rows of {ROW_TOKENS} tokens and {ROW_TILES} tiles, {rows} a step: "
            f"{report['token_fill']:.1%} of tokens, {report['tile_fill']:.1%} of tiles"
        )
    for batch in (32, 64, 256):
        best = propose(chosen, 64, batch)[0]
        print(
            f"v5e:8x8, {batch} records: {best.rows} rows of {best.row_tokens} tokens and "
            f"{best.row_tiles} tiles, tensor {best.tensor}; {best.records_a_step:.2f} records "
            f"a step, {best.token_fill:.1%} of tokens, {best.tile_fill:.1%} of tiles, "
            f"{best.tokens_a_chip:.0f} tokens a chip, cost {best.cost:.2f}"
        )
    print("judgments a picture: decoder and tower work, trunks shared against not, both")
    costs = SEVEN_B
    large = Budget(10**6, 1, 2**31 - 1, 2**31 - 1)
    for each in (1, 2, 3, 4, 6, 8):
        some = records(most=each, least=each)
        shared, alone = (forest(some, large, share).groups for share in (True, False))
        tokens = [sum(g.tokens for g in trees) for trees in (shared, alone)]
        tiles = [sum(g.tiles for g in trees) for trees in (shared, alone)]
        whole = [costs.passes(t, n) for t, n in zip(tokens, tiles, strict=True)]
        print(
            f"{each}: decoder {tokens[1] / tokens[0]:.2f}x, tower {tiles[1] / tiles[0]:.2f}x, "
            f"together {whole[1] / whole[0]:.2f}x"
        )
    every = [forest(chosen, large, share).groups for share in (True, False)]
    cost = [sum(costs.passes(g.tokens, g.tiles) for g in trees) for trees in every]
    print(f"the file (2.4 a picture): together {cost[1] / cost[0]:.2f}x")


if __name__ == "__main__":
    main()
