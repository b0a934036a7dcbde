"""Bradley-Terry scores of models from battles, with no penalty.

The probability that i beats j is 1 / (1 + 10 ** ((s_j - s_i) / 400)); scores are those under which
the battles are likeliest (Bradley and Terry 1952; Hunter 2004, "MM algorithms for generalized
Bradley-Terry models"). They are finite only among models each of which beats, over some chain of
battles, each other. Where that fails the likelihood grows without end, and the limit is told: a
model that stands above in this sense wins with probability 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

SCALE, ANCHOR_SCORE = 400.0, 1000.0


def scores(wins: Array, anchor: int) -> Array:
    """Scores [M] from wins [M, M] (row beats column; fractions allowed), the anchor's at 1000.

    Infinite above or below the anchor; NaN for a model that no chain of wins connects with it in
    either direction.
    """
    count = len(wins)
    found = np.full(count, np.nan)
    reach = _reaches(wins)
    above, below = reach[:, anchor], reach[anchor]
    found[above & ~below] = np.inf
    found[below & ~above] = -np.inf
    near = np.flatnonzero(above & below)
    strength = _likeliest(wins[np.ix_(near, near)])
    scale = SCALE / np.log(10.0)
    found[near] = ANCHOR_SCORE + scale * (strength - strength[near == anchor])
    return found


def win_probability(found: Array) -> Array:
    """The probability [M] of winning against the anchor, from `scores`; NaN stays."""
    return 1.0 / (1.0 + 10.0 ** ((ANCHOR_SCORE - found) / SCALE))


def _reaches(wins: Array) -> Array:
    """[M, M]: whether a chain of wins leads from one model to another; each reaches itself."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(len(wins) + 1))))):
        reach = reach.astype(float) @ reach.astype(float) > 0
    return reach


def _likeliest(wins: Array) -> Array:
    """The maximum of the likelihood by Newton's method with halved steps, strengths [M] in nats.

    `wins` is strongly connected, so that the maximum is finite and, up to a constant, unique.
    """
    count = len(wins)
    strength = np.zeros(count)
    played = wins + wins.T
    if count == 1:
        return strength

    def loss(at: Array) -> float:
        return float((wins * np.logaddexp(0.0, at[None, :] - at[:, None])).sum())

    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (played * chance - wins).sum(axis=1)
        weight = played * chance * (1.0 - chance)
        np.fill_diagonal(weight, 0.0)
        hessian = np.diag(weight.sum(axis=1)) - weight
        step = np.zeros(count)
        # The first strength stays: only differences matter.
        step[1:] = np.linalg.solve(hessian[1:, 1:], -gradient[1:])
        now, size = loss(strength), 1.0
        while loss(strength + size * step) > now + 1e-12 * abs(now) and size > 1e-8:
            size /= 2.0
        strength = strength + size * step
        if np.abs(size * step).max() < 1e-13:
            break
    return strength
