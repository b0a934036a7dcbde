"""Frames of a video, spread evenly over it, as pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from critic_jax.errors import InputError

QUALITY = 95
"""Of the JPEG files; a video's own compression loses more."""


def frames(path: Path, count: int) -> list[bytes]:
    """`count` frames from the first to the last, or all of a shorter video, each a JPEG file.

    Places as numpy.linspace gives them, rounded down, which is how LLaVA-OneVision's evaluation
    draws frames. Raises InputError where PyAV is not installed, and for a file without a video that
    can be decoded.
    """
    try:
        import av
    except ImportError:
        raise InputError(
            "videos need PyAV, which is not installed; pip install 'critic-jax[video]'"
        ) from None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video")
            whole = sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
        wanted = set(_places(whole, count))
        found, last = [], None
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for place, frame in enumerate(container.decode(video=0)):
                last = frame
                if place in wanted:
                    found.append(_jpeg(frame))
    except (av.error.FFmpegError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be decoded as a video ({said})") from None
    if last is None:
        raise InputError(f"{path}: holds no frame")
    if len(found) < len(wanted):  # some files count frames that are not shown
        found.append(_jpeg(last))
    return found


def _jpeg(frame: Any) -> bytes:
    buffer = io.BytesIO()
    frame.to_image().save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def _places(whole: int, count: int) -> Iterable[int]:
    """Places of frames among `whole`, the first and the last among them."""
    if whole <= count:
        return range(whole)
    return (n * (whole - 1) // max(count - 1, 1) for n in range(count))
