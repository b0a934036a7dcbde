"""Pictures of requests: data URLs, and files of folders that the server was given."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import unquote

from critic_jax.data.encode import prepare_pictures
from critic_jax.imaging import ImageGeometry, PictureError, Visual, open_picture
from critic_jax.serving.errors import Refused
from critic_jax.serving.limits import Limits

KEPT = 32
"""Pictures made ready that are kept: harnesses ask several questions about one."""

_DATA = re.compile(r"data:[^,]{0,256},", re.IGNORECASE)
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)


class Pictures:
    """Makes pictures ready for the model, on any thread; the last ones are kept."""

    def __init__(self, geometry: ImageGeometry, limits: Limits) -> None:
        self._geometry, self._limits = geometry, limits
        self._folders = [folder.resolve() for folder in limits.folders]
        self._kept: OrderedDict[tuple[str, ...], tuple[Visual, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def visuals(self, urls: Sequence[str]) -> tuple[Visual, ...]:
        """One picture is cut into tiles at its resolution, several take one tile each.

        Raises Refused for a URL that is not read, and for what is no picture.
        """
        if not urls:
            return ()
        if len(urls) > self._limits.pictures:
            most = self._limits.pictures
            raise Refused(400, f"{len(urls)} pictures; a request has at most {most}", "messages")
        contents = [self._content(url, number) for number, url in enumerate(urls, 1)]
        key = tuple(sha256(content).hexdigest() for content in contents)
        with self._lock:
            if found := self._kept.get(key):
                self._kept.move_to_end(key)
                return found
        try:
            opened = [
                open_picture(content, f"picture {number}", self._limits.pixels)
                for number, content in enumerate(contents, 1)
            ]
            found = prepare_pictures(opened, self._geometry, "picture")
        except PictureError as error:
            raise Refused(400, str(error), "image_url", "invalid_image") from None
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def _content(self, url: str, number: int) -> bytes:
        name = f"picture {number}"
        if start := _DATA.match(url):
            return _decoded(url, start.end(), name)
        if url[:5].lower() == "data:":
            raise _wrong(name, "its data URL has no comma; give data:image/png;base64,...")
        path = url
        if url.startswith("file://"):
            path = unquote(url.removeprefix("file://").removeprefix("localhost"))
        elif _REMOTE.match(url):
            kind = url.split(":", 1)[0][:32]
            raise _wrong(
                name,
                f"a URL of kind {kind!r} is not read: this server makes no outgoing request; send "
                "the picture itself as a data URL (data:image/png;base64,...)",
            )
        return self._file(path, name)

    def _file(self, path: str, name: str) -> bytes:
        """A file's content, if it lies in one of the folders once all links are followed."""
        if not self._folders:
            raise _wrong(name, "no files are read; send the picture as a data URL")
        for folder in self._folders:
            try:
                found = (folder / path).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):  # not there, a zero byte, a circle of links
                continue
            inside = any(found.is_relative_to(one) for one in self._folders)
            if inside and found.is_file():
                if found.stat().st_size > self._limits.body:
                    raise _wrong(name, f"its file has more than {self._limits.body} bytes")
                return found.read_bytes()
        raise _wrong(name, "no such file in the folders that this server reads pictures from")


def _decoded(url: str, start: int, name: str) -> bytes:
    """The content of a data URL whatever its MIME type says: the picture's own bytes tell."""
    head, text = url[:start], url[start:]
    if ";base64" not in head.lower():
        raise _wrong(name, "its data URL is not base64; give data:image/png;base64,...")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass  # it may be written with spaces, line ends, escapes, or without its padding
    plain = "".join(unquote(text).split())
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(name, f"its data URL holds no valid base64 ({error})") from None


def _wrong(name: str, said: str) -> Refused:
    return Refused(400, f"{name}: {said}", "image_url", "invalid_image_url")
