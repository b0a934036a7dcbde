"""What a guide of an answer is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Guide(Protocol):
    """Says, token by token, how an answer may go on. It is asked on the host."""

    def allowed(self, tokens: Sequence[int]) -> np.ndarray | None:
        """The ids that may come after the answer's `tokens` so far, stop ids among them; None for
        any. At the start of an answer `tokens` is empty."""
