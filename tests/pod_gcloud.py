"""gcloud, as far as the scripts of a pod use it, with workers that are folders.

It takes only the commands and flags of COMMANDS, each from the page that is named there, writes
every call into `calls.jsonl` of the folder $POD_WORLD, and plays what its `plan.json` says:

- `create`: what successive requests come to, the last one again and again: {"states": [...]}, told
  one by one whenever the state is asked for, or {"error": TEXT}, with which the service refuses;
- `refuse_ssh`: so many connections fail, as when a key is not known yet;
- `silent`: of so many pods, the first ones, no look at workers is answered;
- `preempt_after`: for each pod in turn, behind how many looks at its workers it is taken away.

A file `take` in the folder takes the pod away too, before the next call does anything.

A worker is the folder `workers/NODE-N`; a process of it dies with the pod. Buckets are folders too.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REFERENCE = "https://cloud.google.com/sdk/gcloud/reference/"
WIDE = {"--project": True, "--quiet": False, "--format": True}  # .../reference/#GLOBAL-FLAGS
ZONED = {"--zone": True}
TPUS = "compute tpus "

# Command -> (its positional arguments, flags and whether each takes a value). The page of each is
# REFERENCE and the command with slashes.
COMMANDS: dict[str, tuple[int, dict[str, bool]]] = {
    TPUS + "queued-resources create": (
        1,
        ZONED
        | {
            **dict.fromkeys(("--accelerator-type", "--runtime-version", "--node-id"), True),
            **dict.fromkeys(("--node-count", "--node-prefix", "--valid-until-duration"), True),
            **dict.fromkeys(("--spot", "--reserved", "--guaranteed", "--async"), False),
        },
    ),
    TPUS + "queued-resources describe": (1, ZONED),
    TPUS + "queued-resources delete": (1, ZONED | {"--force": False, "--async": False}),
    TPUS + "tpu-vm ssh": (
        1,
        ZONED | {"--worker": True, "--command": True, "--output-directory": True},
    ),
    TPUS + "tpu-vm scp": (2, ZONED | {"--worker": True, "--recurse": False}),
    "storage buckets describe": (1, {}),
    "storage buckets create": (
        1,
        {
            "--location": True,
            "--uniform-bucket-level-access": False,
            "--enable-hierarchical-namespace": False,
        },
    ),
    "storage cp": (2, {"--no-clobber": False, "--recursive": False}),
    "storage rsync": (2, {"--recursive": False, "--exclude": True}),
}
# https://cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
    "v4": "tpu-ubuntu2204-base",
    "v5p": "v2-alpha-tpuv5",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v6e": "v2-alpha-tpuv6e",
}
Flags = dict[str, str]


class Refused(Exception):
    """What gcloud would say, and leave with an exit code other than 0."""


def parse(words: list[str]) -> tuple[str, list[str], Flags]:
    """(command, positional arguments, flags); Refused for what no page names."""
    command = next((c for c in COMMANDS if words[: len(c.split())] == c.split()), None)
    if command is None:
        raise Refused(f"Invalid choice: {' '.join(words[:4])!r}")
    count, known = COMMANDS[command]
    known = known | WIDE
    given: list[str] = []
    flags: Flags = {}
    rest = iter(words[len(command.split()) :])
    for word in rest:
        if not word.startswith("--"):
            given.append(word)
            continue
        name, equals, value = word.partition("=")
        if name not in known:
            raise Refused(f"unrecognized arguments: {word} ({REFERENCE}{command})")
        if known[name] and not equals:
            value = next(rest, "")
        if known[name] != bool(value):
            raise Refused(f"argument {name}: it takes {'a' if known[name] else 'no'} value")
        flags[name] = value
    if len(given) != count:
        raise Refused(f"{command}: {count} positional arguments, not {given}")
    if "--project" not in flags or (known.get("--zone") and "--zone" not in flags):
        raise Refused(f"{command}: project and zone must be given")
    check(command, flags)
    return command, given, flags


def check(command: str, flags: Flags) -> None:
    """Rules that the pages state about several flags."""
    if command.endswith(" create") and "queued" in command:
        if ("--node-id" in flags) == ("--node-count" in flags):
            raise Refused("exactly one of --node-id and --node-count must be given")
        if int(flags.get("--node-count", 2)) < 2:
            raise Refused("--node-count: Node count must be greater than 1")
        if len({"--spot", "--reserved", "--guaranteed"} & set(flags)) > 1:
            raise Refused("at most one of --spot, --reserved and --guaranteed")
        kind = flags["--accelerator-type"].partition("-")[0]
        if RUNTIMES.get(kind) != flags["--runtime-version"]:
            raise Refused(f"{flags['--runtime-version']} does not run on {kind}")
    if command.endswith(" ssh"):
        if not flags.get("--command"):
            raise Refused("--worker: cannot target multiple workers without the --command flag")
        folder = flags.get("--output-directory")
        if folder and folder != "SEEN" and not Path(folder).is_dir():
            raise Refused(f"--output-directory: no folder {folder}")


class World:
    """The project: what is there, in `world.json`, and the plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        file = folder / "world.json"
        self.now: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self.pods: dict[str, Any] = self.now.setdefault("pods", {})
        if (folder / "take").exists():
            for name in self.pods:
                self.preempt(name)
            (folder / "take").unlink()

    def save(self) -> None:
        part = self.folder / "world.part"
        part.write_text(json.dumps(self.now))
        part.replace(self.folder / "world.json")

    def count(self, name: str) -> int:
        """How often that has been counted before."""
        self.now[name] = self.now.get(name, 0) + 1
        self.save()
        return self.now[name] - 1

    def bucket(self, url: str) -> Path:
        return self.folder / "buckets" / url.removeprefix("gs://")

    def create(self, name: str, flags: Flags) -> None:
        if name in self.pods:
            raise Refused(f"ALREADY_EXISTS: {name}")
        outcomes = self.plan.get("create") or [{"states": ["ACTIVE"]}]
        outcome = outcomes[min(self.count("created"), len(outcomes) - 1)]
        if "error" in outcome:
            raise Refused(outcome["error"])
        kind, _, size = flags["--accelerator-type"].partition("-")
        cores = kind in ("v4", "v5p")
        hosts = -(-int(size) // 8) if cores else (1 if int(size) <= 8 else int(size) // 4)
        nodes = [flags["--node-id"]] if "--node-id" in flags else []
        prefix = flags.get("--node-prefix", name)
        nodes += [f"{prefix}-{n}" for n in range(int(flags.get("--node-count", 0)))]
        workers = {node: [f"{node}-w-{n}" for n in range(hosts)] for node in nodes}
        self.pods[name] = {"states": outcome["states"], "workers": workers, "looks": 0}
        self.save()
        for worker in (w for some in workers.values() for w in some):
            (self.folder / "workers" / worker).mkdir(parents=True)

    def describe(self, name: str) -> str:
        if name not in self.pods:
            raise Refused(f"NOT_FOUND: {name} was not found")
        states = self.pods[name]["states"]
        state = states.pop(0) if len(states) > 1 else states[0]
        self.save()
        return str(state)

    def delete(self, name: str, force: bool) -> None:
        state = self.describe(name)
        if not force and state not in ("ACCEPTED", "FAILED", "SUSPENDED"):
            raise Refused(f"{name} is {state}; its nodes must be deleted first")
        self.end_workers(name)
        del self.pods[name]
        self.save()

    def end_workers(self, name: str) -> None:
        """All processes of a pod at once, and what is on its disks."""
        for worker in (w for some in self.pods[name]["workers"].values() for w in some):
            folder = self.folder / "workers" / worker
            for keeper in folder.glob("critic-jobs/*/keeper"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(keeper.read_text()), signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)

    def preempt(self, name: str) -> None:
        self.pods[name]["states"] = ["SUSPENDED"]
        self.end_workers(name)
        self.count("preempted")

    def node(self, node: str) -> tuple[str, list[str]]:
        for name, pod in self.pods.items():
            if node in pod["workers"] and pod["states"] == ["ACTIVE"]:
                return name, pod["workers"][node]
        raise Refused(f"NOT_FOUND: no node {node} that could be reached")

    def some(self, workers: list[str], which: str) -> list[tuple[int, Path]]:
        numbers = range(len(workers)) if which == "all" else [int(which)]
        return [(n, self.folder / "workers" / workers[n]) for n in numbers]

    def ssh(self, node: str, flags: Flags) -> int:
        name, workers = self.node(node)
        if self.count("connections") < self.plan.get("refuse_ssh", 0):
            raise Refused("[/usr/bin/ssh] exited with return code [255].")
        command = flags["--command"]
        if " state " in command:
            if self.now["created"] <= self.plan.get("silent", 0):
                time.sleep(60)
            looks = self.plan.get("preempt_after", [])
            self.pods[name]["looks"] += 1
            self.save()
            done = self.now.get("preempted", 0)
            if done < len(looks) and self.pods[name]["looks"] > looks[done]:
                self.preempt(name)
                raise Refused("[/usr/bin/ssh] exited with return code [255].")
        calls = []
        port = free_port()
        whole = [w for some in self.pods[name]["workers"].values() for w in some]
        for number, home in self.some(workers, flags.get("--worker", "0")):
            environment = {
                "HOME": str(home),
                "PATH": f"{self.folder / 'worker-programs'}:/usr/bin:/bin",
                "HOSTNAME": home.name,
                "POD_WORLD": str(self.folder),
                # As the metadata of a slice tell its machines of each other.
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(len(whole)),
                "JAX_PROCESS_ID": str(whole.index(home.name)),
                "STOP_SECONDS": "1",
            }
            folder = flags.get("--output-directory")
            output = (Path(folder) / f"{number}.log").open("w") if folder else None
            calls.append(
                subprocess.Popen(
                    ["/bin/bash", "-c", command],
                    env=environment,
                    cwd=home,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output and subprocess.STDOUT,
                )
            )
        return max(call.wait() for call in calls)

    def scp(self, source: str, target: str, flags: Flags) -> None:
        node, _, place = target.partition(":")
        for _, home in self.some(self.node(node)[1], flags.get("--worker", "0")):
            shutil.copy(source, home / place)

    def copy(self, source: str, target: str, keep: bool) -> None:
        place = self.bucket(target)
        if not (keep and place.exists()):
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)

    def rsync(self, source: str, target: str, exclude: str | None) -> None:
        folder = self.bucket(source)
        if not folder.is_dir():
            raise Refused(f"{source}: no such object")
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = file.relative_to(folder).as_posix()
            if not (exclude and re.match(exclude, name)):
                (Path(target) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, Path(target) / name)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def call(world: World, command: str, given: list[str], flags: Flags) -> int:
    match command.split()[-2:]:
        case "queued-resources", "create":
            world.create(given[0], flags)
        case "queued-resources", "describe":
            print(world.describe(given[0]))
        case "queued-resources", "delete":
            world.delete(given[0], "--force" in flags)
        case "tpu-vm", "ssh":
            return world.ssh(given[0], flags)
        case "tpu-vm", "scp":
            world.scp(given[0], given[1], flags)
        case "buckets", "describe":
            if not world.bucket(given[0]).is_dir():
                raise Refused(f"{given[0]} not found: 404")
        case "buckets", "create":
            world.bucket(given[0]).mkdir(parents=True)
        case "storage", "cp":
            world.copy(given[0], given[1], "--no-clobber" in flags)
        case _:
            world.rsync(given[0], given[1], flags.get("--exclude"))
    return 0


def main() -> int:
    folder = Path(os.environ["POD_WORLD"])
    words = sys.argv[1:]
    code = 1
    try:
        command, given, flags = parse(words)
        code = 0
        code = call(World(folder), command, given, flags)
    except Refused as refused:
        code = 1 if code == 0 else 2
        print(f"ERROR: (gcloud) {refused}", file=sys.stderr)
    finally:
        with (folder / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps({"words": words, "code": code}) + "\n")
    return code


def leave() -> None:
    sys.exit(main())
