"""A stand-in of the Hugging Face hub on this machine: what downloading a model asks, no more."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Revisions = dict[str, Path]


def commit_of(folder: Path) -> str:
    """40 hexadecimal digits, as a commit has; the folder's path stands for what is in it."""
    return hashlib.sha1(str(folder).encode()).hexdigest()


@dataclass
class Hub:
    """Models by id, each a folder a revision, and what was asked of them.

    gated: models whose files are refused, though anyone may list them, as on the real hub.
    shaky: models where the connection is cut half-way when a file is first asked for.
    broken: models where every connection is cut, until their list is asked for again.
    """

    models: dict[str, Revisions]
    gated: set[str] = field(default_factory=set)
    shaky: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def sent(self, model: str) -> list[str]:
        """The names of the model's files that were asked for, once for each time."""
        start = f"GET /{model}/resolve/"
        return [n.rsplit("/", 1)[1] for n in self.asked if n.startswith(start)]

    def cuts(self, model: str, path: str) -> bool:
        """Whether the connection is cut in this answer to a file being asked for."""
        listed = self.asked.count(f"GET /api/models/{model}/revision/main")
        first = self.asked.count(f"GET {path}") == 1
        return (model in self.shaky and first) or (model in self.broken and listed < 2)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, kind = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision"
            revision, file = "/".join(parts[5:]) or "main", ""
        elif parts[2:3] == ["resolve"] and len(parts) > 4:  # org/name/resolve/revision/file
            name, kind = "/".join(parts[:2]), "resolve"
            revision, file = parts[3], "/".join(parts[4:])
        else:
            return self._refuse(404, "NoSuchPage")
        revisions = self.hub.models.get(name)
        if revisions is None:
            return self._refuse(404, "RepoNotFound")
        known = {**revisions, **{commit_of(folder): folder for folder in revisions.values()}}
        folder = known.get(revision)
        if folder is None:
            return self._refuse(404, "RevisionNotFound")
        if kind != "resolve":
            return self._send(json.dumps(_listed(folder, kind)).encode(), body)
        if name in self.hub.gated:
            return self._refuse(403, "GatedRepo")
        if not (folder / file).is_file():
            return self._refuse(404, "EntryNotFound")
        self._send_file(folder, file, body, body and self.hub.cuts(name, path))

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "refused by the stand-in")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, body: bool, **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _send_file(self, folder: Path, file: str, body: bool, cut: bool) -> None:
        content = (folder / file).read_bytes()
        if not cut:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self._send(content, body, ETag=etag, X_Repo_Commit=commit_of(folder))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not self.headers.get("Range"):
            self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


def _listed(folder: Path, kind: str) -> Any:
    """What the hub tells of a revision, or of the tree of its files."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    names = [str(p.relative_to(folder)) for p in files]
    if kind == "tree":
        return [
            {"type": "file", "path": n, "size": p.stat().st_size, "oid": commit_of(p)}
            for n, p in zip(names, files, strict=True)
        ]
    siblings = [{"rfilename": name} for name in names]
    return {"id": folder.name, "sha": commit_of(folder), "siblings": siblings, "private": False}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The stand-in at `hub.url`, while the block lasts."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Ran:
    """How one command of several ended."""

    code: int
    out: str
    err: str


# The client reads its environment when it is imported, so commands run in a process of their own;
# in one process for several of them, because starting JAX takes seconds.
_PROGRAM = """
import contextlib, io, json, sys
from huggingface_hub import snapshot_download  # before stderr is caught, where its log goes
from critic_jax.cli import main
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def run_verbs(url: str, cache: Path, cwd: Path, *commands: list[str]) -> list[Ran]:
    """Run `critic-jax` with each list of words, asking the hub at `url`, in the folder `cwd`."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("HF_", "HUGGING_FACE"))}
    env = {**clean, "HF_ENDPOINT": url, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(commands),
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # bars and warnings of the client's would stand here
    return [Ran(*json.loads(line)) for line in done.stdout.splitlines()]
