"""A training run of two processes, on a pod that is taken away again and again."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pod_gcloud import free_port
from pod_world import PodWorld
from run_lines import metrics
from train_command import COMMAND, begin, end, newest, same_bits

from critic_jax.hosts import PATIENCE

STEPS = 24


def job() -> str:
    """`critic-jax` as it would be installed on a worker."""
    kept = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in kept.items()]
    # A state has one path on all workers, as below the home of a user whom they all know.
    lines += ['ln -sfn buckets/my-critic "$POD_WORLD/bucket"', 'cd "$POD_WORLD"']
    return "\n".join([*lines, f'exec {sys.executable} -c {shlex.quote(COMMAND)} "$@"']) + "\n"


def wait_for(world: PodWorld, output: Path, step: int) -> None:
    until = time.monotonic() + PATIENCE
    while not output.exists() or newest(output) < step:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_a_pod_taken_away_three_times_and_stopped_once_ends_with_the_bits_of_a_run_left_alone(
    config_file: Path, data: Callable[..., Path], tmp_path: Path
) -> None:
    words: list[str | Path] = [config_file, "--data", data(), "--epochs", str(STEPS // 6)]
    world = PodWorld(
        tmp_path / "world",
        job(),
        CONFIG=str(config_file),
        DATA=str(words[2]),
        FIELDS=f"--epochs {STEPS // 6} --save-every 1",
        GRACE="1",
    )
    output = world.bucket / "runs" / "first"
    run = world.begin("run.sh", "--delete")
    try:
        for step in (1, 2, 3):
            wait_for(world, output, step)
            world.take_away()
        wait_for(world, output, 4)
        # Only one of the two hears of it.
        pid = world.folder / "workers/critic-w-1/critic-jobs/first/pid"
        os.kill(int(pid.read_text()), signal.SIGTERM)
        said, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
        world.end()
    assert run.returncode == 0, said
    assert said.count("the pod is SUSPENDED") == 3 and "the job was told to stop" in said
    assert world.pods() == {} and world.count("queued-resources", "create") == 4
    assert [line["step"] for line in metrics(output)] == list(range(1, STEPS + 1))

    whole, port = tmp_path / "whole", f"127.0.0.1:{free_port()}"
    joined = ("--coordinator", port, "--processes", "2", "--process")
    left = [begin(config_file, *joined, n, *words[1:], "--output", whole) for n in "01"]
    assert [end(process) for process in left] == [(0, "")] * 2
    assert same_bits(output, whole)
