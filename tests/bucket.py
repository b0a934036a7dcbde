"""A store on this machine that speaks Cloud Storage's interface."""

import json
import logging
import os
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gcp_storage_emulator.server import create_server
from pod_gcloud import free_port


class Bucket:
    """gs://my-critic, held in memory."""

    def __init__(self, port: int) -> None:
        self._at = f"http://127.0.0.1:{port}/storage/v1/b/my-critic/o"

    def names(self, folder: str) -> list[str]:
        """Of the objects below a folder, but those that note when a program was last used."""
        with urllib.request.urlopen(f"{self._at}?prefix={folder}", timeout=10) as answer:
            found = json.load(answer).get("items", [])
        return sorted(item["name"] for item in found if not item["name"].endswith("-atime"))

    def remove(self, name: str) -> None:
        url = f"{self._at}/{urllib.parse.quote(name, safe='')}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10)


@contextmanager
def bucket(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """The store while the block runs, for this process and those that it starts.

    cache: of copies, as a machine of its own has it.
    """
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="my-critic")
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it tells every miss
    server.start()
    at = f"http://127.0.0.1:{port}"
    for name, value in {
        "STORAGE_EMULATOR_HOST": at,  # fsspec's, and Google's own library
        "TENSORSTORE_GCS_HTTP_URL": at,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",  # TensorStore asks for none elsewhere
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # warns with every call of what is not there
        "CRITIC_JAX_CACHE": str(cache),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield Bucket(port)
    finally:
        server.stop()
