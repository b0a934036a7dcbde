"""A folder that is a Google Cloud project to the scripts of a pod: see `pod_gcloud`."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1] / "tpu_scripts"
TESTS = Path(__file__).parent

SETTINGS = {
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "BUCKET": "gs://my-critic",
    "POD": "critic",
    "TYPE": "v4-16",
    "RUN": "first",
    "CONFIG": "tiny",
    "RETRIES": "5",
    "STUCK_MINUTES": "5",
    "POLL": "0.5",
    "GRACE": "0.1",
}

# Programs of a worker's machine: what is mounted is a folder, what is installed is `critic-jax`
# of the world's own folder.
PROGRAMS = {
    "mountpoint": 'test -L "$2"',
    "gcsfuse": 'rmdir "${@: -1}"; ln -s "$POD_WORLD/buckets/${@: -2:1}" "${@: -1}"',
    "uv": """\
case "$1 $2" in
  "pip compile") while [ "$1" != --output-file ]; do shift; done; echo jax==0.10.2 >"$2" ;;
  "pip install") case "${@: -1}" in
      ./critic-source/*)
        test -s "${@: -1}/pyproject.toml"
        cp "$POD_WORLD/critic-jax" critic-venv/bin/ ;;
      *) grep -q jax "${@: -1}" ;;
    esac ;;
  "venv "*) mkdir -p critic-venv/bin ;;
esac""",
}

# A run of 6 steps, which keeps each; worker 0 writes. What is in the file `faults` of the world
# befalls the worker that a line names, at that step, once.
JOB = """\
while [ $# -gt 0 ]; do [ "$1" != --output ] || output=$2; shift; done
mkdir -p "$output"
lines() { cat "$output/metrics.jsonl" 2>/dev/null | wc -l; }
echo "$HOSTNAME begins behind step $(lines)"
stopped() {
  echo "critic-jax: $output: stopped at step $(lines) of 6, the state is saved; again"
  exit 0
}
trap stopped TERM
while [ "$(lines)" -lt 6 ]; do
  fault=$(sed -n "s/^$HOSTNAME $(lines) //p" "$POD_WORLD/faults" 2>/dev/null)
  if [ -n "$fault" ]; then
    sed -i "/^$HOSTNAME $(lines) /d" "$POD_WORLD/faults"
    eval "$fault"
  fi
  [ "$JAX_PROCESS_ID" != 0 ] || echo "{\\"step\\": $(($(lines) + 1))}" >>"$output/metrics.jsonl"
  sleep 0.1
done
"""


class PodWorld:
    """The project, and a user's folder to call the scripts from."""

    def __init__(self, folder: Path, job: str = JOB, **settings: str) -> None:
        self.folder = folder
        self.here = folder / "here"
        self.bucket = folder / "buckets" / "my-critic"
        for name in ("here", "programs", "worker-programs", "workers", "clone"):
            (folder / name).mkdir(parents=True)
        self._clone(folder / "clone")
        # Imported, not run: Python compiles a program anew each time.
        code = f"import sys; sys.path.append('{TESTS}'); import pod_gcloud; pod_gcloud.leave()"
        stand_in = f'exec {sys.executable} -S -E -c "{code}" "$@"\n'
        self._program(folder / "programs" / "gcloud", stand_in)
        for name, body in PROGRAMS.items():
            self._program(folder / "worker-programs" / name, f"set -e\n{body}\n")
        self._program(folder / "critic-jax", job)
        self.settings(**settings)
        self.plan()

    def _clone(self, folder: Path) -> None:
        """A clone of no more than what an installation on workers needs here."""
        shutil.copytree(SCRIPTS, folder / SCRIPTS.name)
        shutil.copy(SCRIPTS.parent / "pyproject.toml", folder)
        git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "made"]):
            subprocess.run([*git, *words], cwd=folder, check=True)

    def _program(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/bash\n{body}")
        path.chmod(0o755)

    def settings(self, **changed: str) -> None:
        lines = (f"{name}={shlex.quote(value)}" for name, value in (SETTINGS | changed).items())
        (self.here / "pod.env").write_text("\n".join(lines) + "\n")

    def plan(self, **plan: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def faults(self, *lines: str) -> None:
        (self.folder / "faults").write_text("\n".join(lines) + "\n")

    def begin(self, script: str, *words: str) -> subprocess.Popen[str]:
        """A script on its way, as from a terminal of its own."""
        environment = os.environ | {
            "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}",
            "POD_WORLD": str(self.folder),
        }
        return subprocess.Popen(
            [self.folder / "clone" / SCRIPTS.name / script, *words],
            cwd=self.here,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A terminal's programs listen to Ctrl-C; those of a job in the background may not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def call(
        self, script: str, *words: str, answer: str = "", seconds: float = 60
    ) -> tuple[int, str]:
        """(exit code, what it said) of a script."""
        process = self.begin(script, *words)
        said, _ = process.communicate(answer, timeout=seconds)
        return process.returncode, said

    def calls(self) -> list[list[str]]:
        """Every call of gcloud, its words; none may have been one that no page names."""
        file = self.folder / "calls.jsonl"
        calls = (
            [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        )
        assert all(call["code"] != 2 for call in calls), calls
        return [call["words"] for call in calls]

    def count(self, *words: str) -> int:
        """How many calls had all of these words."""
        return sum(set(words) <= set(call) for call in self.calls())

    def pods(self) -> dict[str, str]:
        """What is there: pods by name, with their state."""
        file = self.folder / "world.json"
        pods = json.loads(file.read_text())["pods"] if file.exists() else {}
        return {name: pod["states"][0] for name, pod in pods.items()}

    def steps(self) -> list[int]:
        text = (self.bucket / "runs" / "first" / "metrics.jsonl").read_text()
        return [int(step) for step in re.findall(r'"step": (\d+)', text)]

    def take_away(self) -> None:
        """Kill all workers' processes at once; the service says why a moment later."""
        self.end()
        (self.folder / "take").touch()

    def end(self) -> None:
        """No process of a worker outlives the test."""
        for keeper in self.folder.glob("workers/*/critic-jobs/*/keeper"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(keeper.read_text()), 9)
