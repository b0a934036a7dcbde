"""What a step's work costs in floating-point operations, counted in one way everywhere.

The convention: a matrix product counts two operations a parameter and a token (one to multiply,
one to add), and training three products for each of the forward pass, that is 6 a parameter and a
token. Attention counts both its products over the pairs of query and key that may see each other,
exactly as many as there are: a causal row half, a tree fewer still. That is 4 * heads * head
dimension a layer and a pair forward, 12 in training. The tower's tiles are counted so too, each of
a tile's patches with every other. The head counts at the tokens whose next one is supervised, the
embedding, norms and activations nowhere. Slots left empty count nothing, and neither does what is
computed again to save memory: this is the work that the model needs, not what the machine does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """What slots of a model cost.

    decoder: parameters of its products that each token goes through.
    tower: the same for a patch, the projector's included.
    patches: of a tile.
    head: parameters that each supervised token goes through; 0 where `decoder` has them.
    decoder_pair, tower_pair: layers * heads * head dimension, for a pair of query and key.
    """

    decoder: float
    tower: float
    patches: int
    head: float = 0
    decoder_pair: float = 0
    tower_pair: float = 0

    def passes(self, tokens: float, tiles: float) -> float:
        """Parameter passes of some slots, without head and attention."""
        return self.decoder * tokens + self.tower * self.patches * tiles

    def training(self, tokens: float, tiles: float, supervised: float, pairs: float) -> float:
        """Operations of a training step: tokens and tiles in use, and pairs of tokens that see
        each other, by this module's convention."""
        attention = self.decoder_pair * pairs + self.tower_pair * tiles * self.patches**2
        return 6 * (self.passes(tokens, tiles) + self.head * supervised) + 12 * attention
