"""`critic-jax serve` as a command of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from killed import PROGRAM


class ServeProcess:
    """The command at a free port, and what it has said on stderr.

    quickly: programs compile in half the time, and are slower.
    """

    def __init__(self, *words: str | Path | int, quickly: bool = True) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        if quickly:
            environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *map(str, words)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def find(self, pattern: str, seconds: float = 120) -> str:
        """The first group of a line that has been or will be said."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for line in list(self.said):
                if found := re.search(pattern, line):
                    return found[1]
            assert self.process.poll() is None or self._reader.is_alive(), self.said
            time.sleep(0.02)
        raise AssertionError(self.said)

    def url(self) -> str:
        """Where it listens."""
        return self.find(r"listens at (http://127\.0\.0\.1:\d+/v1)")

    def memory(self) -> int:
        """Bytes of it that are in memory now; Linux tells."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """Ask it to finish; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
