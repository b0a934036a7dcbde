"""How much a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """Limits of an endpoint; what is beyond them is refused, and told what would be right.

    body: bytes of a request. bodies: of all requests that are there together. pixels: of a picture.
    pictures, answers: of a request. queue: requests that wait or are worked on at a time; who comes
    then is told to come again. new_tokens: of an answer; who asks for more gets so many. seconds:
    that an answer may take. folders: where pictures may be read from; nothing else of this machine
    is.
    """

    body: int = 64 * 2**20
    bodies: int = 512 * 2**20
    pixels: int = 2**25
    pictures: int = 16
    answers: int = 16
    queue: int = 256
    new_tokens: int = 1024
    seconds: float = 600.0
    folders: tuple[Path, ...] = ()
