"""The picture geometry of a checkpoint: how large a tile is, and which grids of tiles exist."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from critic_jax.errors import InputError

Unpad = Literal["hf", "original"]

_SIDES = tuple(384 * n for n in range(1, 7))
_PINPOINTS = tuple((width, height) for width in _SIDES for height in _SIDES)


@dataclass(frozen=True)
class ImageGeometry:
    """How pictures become tiles and tiles become patches. Hashable, and a JSON round trip away.

    The defaults are those of LLaVA-OneVision and LLaVA-Critic.

    Attributes:
        tile_size: side of a square tile, in pixels.
        patch_size: side of a square patch, in pixels. Where it does not divide the tile, the last
            pixels of every tile are never seen (384 = 27 * 14 + 6).
        pinpoints: the grids that a picture may be laid on, (width, height) in pixels, in the order
            in which ties are settled. Configurations of transformers list (height, width).
        max_grid_tiles: the token budget of the grid, in tiles: a larger grid is shrunk towards it
            (the 9 of `anyres_max_9`).
        unpad: "hf" rounds the unpadded side to 7 decimals before truncating it, as transformers
            does; "original" truncates it as LLaVA-NeXT does. Very few sizes differ (2376 x 1760).

    Raises:
        InputError: a value is out of range.
    """

    tile_size: int = 384
    patch_size: int = 14
    pinpoints: tuple[tuple[int, int], ...] = _PINPOINTS
    max_grid_tiles: int = 9
    unpad: Unpad = "hf"

    def __post_init__(self) -> None:
        for name in ("tile_size", "patch_size", "max_grid_tiles"):
            value = getattr(self, name)
            if not _is_count(value):
                raise InputError(f"geometry: {name} is {value!r}; it must be an integer above 0")
        if self.patch_size > self.tile_size:
            raise InputError(
                f"geometry: patch_size {self.patch_size} is larger than tile_size "
                f"{self.tile_size}; a tile must hold at least one patch"
            )
        try:
            pairs = tuple((width, height) for width, height in self.pinpoints)
        except (TypeError, ValueError):
            raise InputError(
                f"geometry: pinpoints is {self.pinpoints!r}; it must be a list of (width, height)"
            ) from None
        if not pairs:
            raise InputError("geometry: pinpoints is empty; give at least one (width, height)")
        for pair in pairs:
            if not all(_is_count(side) and side % self.tile_size == 0 for side in pair):
                raise InputError(
                    f"geometry: pinpoint {pair} is not a multiple of tile_size {self.tile_size}; "
                    "width and height must both be"
                )
        object.__setattr__(self, "pinpoints", pairs)
        if self.unpad not in get_args(Unpad):
            raise InputError(f"geometry: unpad is {self.unpad!r}; it must be 'hf' or 'original'")

    @property
    def side(self) -> int:
        """Patches along one side of a tile."""
        return self.tile_size // self.patch_size

    @property
    def patches(self) -> int:
        """P, the patches of one tile."""
        return self.side**2

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types; `from_dict` is the inverse."""
        return {
            "tile_size": self.tile_size,
            "patch_size": self.patch_size,
            "pinpoints": [list(pair) for pair in self.pinpoints],
            "max_grid_tiles": self.max_grid_tiles,
            "unpad": self.unpad,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageGeometry":
        """The geometry that `to_dict` wrote.

        Raises:
            InputError: a field is missing, unknown or out of range. Nothing is filled in: a
                geometry that is nearly right gives wrong tokens without a word.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            wrong = sorted(set(values) ^ names)
            raise InputError(
                f"geometry: {', '.join(wrong)} missing or unknown; "
                f"the fields are {', '.join(sorted(names))}"
            )
        return cls(**values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
