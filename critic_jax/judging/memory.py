"""Amounts of memory as people write them."""

from __future__ import annotations

import re

from critic_jax.errors import InputError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(text: str | None) -> int | None:
    """Bytes from "12GB" or "1.5 GiB", or a bare number of them; None for None.

    GB are 10^9 bytes and GiB 2^30. Raises InputError for what is no amount above 0.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b|)", text.strip(), re.IGNORECASE)
    amount = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if amount < 1:
        raise InputError(f"memory is {text!r}; it should be an amount such as 12GB or 800MiB")
    return amount
