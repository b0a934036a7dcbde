"""A training input that is killed goes on elsewhere: the union of what was read is the plan."""

import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_critic import GEOMETRY, tiny_tokenizer

from critic_jax.data.chosen import choose
from critic_jax.data.corpus_rows import CorpusRows
from critic_jax.data.encode import Encoder
from critic_jax.data.plan import Budget
from critic_jax.data.rows import Batch
from critic_jax.data.selection import Part

BUDGET = Budget(records=6, rows=4, tokens=2600, tiles=24)

# A host: reads its rows of every step, and says of each batch which rows they were.
HOST = """
import pickle, sys
from test_killed_input import row_names
from critic_jax.data.pipeline import batches
if __name__ == "__main__":
    rows = pickle.load(open(sys.argv[1], "rb"))
    start, first, stop, workers = map(int, sys.argv[2:6])
    for step, batch in enumerate(batches(rows, start, workers, (first, stop)), start):
        print(step, *row_names(batch), flush=True)
"""


def row_names(batch: Batch) -> list[str]:
    """A hash of each row's arrays."""
    arrays = [array for _, array in sorted(batch.items()) if array.ndim]
    rows = range(len(arrays[0]))
    return [hashlib.sha256(b"".join(a[r].tobytes() for a in arrays)).hexdigest() for r in rows]


class Run:
    """A run's input on some hosts at a time; `trained` steps are done for good."""

    def __init__(self, planned: CorpusRows, folder: Path) -> None:
        self.planned, self.folder = planned, folder
        (folder / "rows.pickle").write_bytes(pickle.dumps(planned))
        (folder / "host.py").write_text(HOST)
        self.trained = 0
        self.seen: list[list[str]] = []

    def go_on(self, hosts: int, workers: int, steps: int | None) -> None:
        """Read on `hosts` hosts; kill them once `steps` more steps are trained (None: never)."""
        each = BUDGET.rows // hosts
        logs = [self.folder / f"log{host}" for host in range(hosts)]
        processes = []
        for host, log in enumerate(logs):
            part = [str(n) for n in (self.trained, host * each, (host + 1) * each, workers)]
            command = [sys.executable, "host.py", "rows.pickle", *part]
            path = os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 1))
            environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
            with log.open("w") as file:
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=self.folder,
                        env=environment,
                        stdout=file,
                        start_new_session=True,
                    )
                )
        while any(p.poll() is None for p in processes):
            if steps is not None and min(len(self._lines(log)) for log in logs) >= steps:
                break
            time.sleep(0.02)
        for process in processes:
            if steps is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        # A step is trained when every host has its rows; hosts may have read further.
        done = min(len(self._lines(log)) for log in logs)
        for place in range(done):
            lines = [self._lines(log)[place].split() for log in logs]
            assert {int(line[0]) for line in lines} == {self.trained + place}
            self.seen.append([name for line in lines for name in line[1:]])
        self.trained += done

    def _lines(self, log: Path) -> list[str]:
        return [line for line in log.read_text().splitlines(True) if line.endswith("\n")]

    def check(self) -> None:
        expected = [row_names(self.planned[step]) for step in range(len(self.planned))]
        assert self.trained == len(self.planned)
        assert self.seen == expected


@pytest.fixture
def run(imported: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """Two epochs, or as many as the test says."""
    records, _ = choose([Part(str(imported))], tiny_tokenizer(), GEOMETRY, 0, 1)
    encoder = Encoder(tiny_tokenizer(), GEOMETRY)
    return Run(CorpusRows(records, encoder, BUDGET, getattr(request, "param", 2), 0), tmp_path)


def test_a_killed_input_goes_on_with_other_hosts_and_workers(run: Run) -> None:
    run.go_on(hosts=1, workers=1, steps=5)
    run.go_on(hosts=2, workers=0, steps=7)
    run.go_on(hosts=1, workers=2, steps=None)
    run.check()


@pytest.mark.slow
@pytest.mark.parametrize("run", [20], indirect=True)
def test_twenty_random_cuts(run: Run) -> None:
    dice = random.Random(0)
    for _ in range(20):
        run.go_on(dice.choice([1, 2, 4]), dice.choice([0, 0, 1, 2]), dice.randint(1, 9))
    assert run.trained < len(run.planned)  # every cut was one
    run.go_on(hosts=1, workers=0, steps=None)
    run.check()
