"""Two hosts of a run: each builds its own rows, and together they take the whole step."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from run_lines import metrics
from train_command import begin, end, newest, wait_for_step
from two_hosts import BUDGET, checksum, planned

from critic_jax.checkpoints import load_checkpoint
from critic_jax.checkpoints.arrays import read_tree

HOSTS = Path(__file__).parents[1] / "two_hosts.py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("start", [0, 3])
def test_each_host_feeds_its_own_devices(start: int) -> None:
    port = free_port()
    calls = [[sys.executable, HOSTS, str(host), str(port), str(start)] for host in (0, 1)]
    running = [
        subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for call in calls
    ]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    found = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    half = BUDGET.rows // 2
    assert [f["built"] for f in found] == [[[0, half]], [[half, BUDGET.rows]]]
    rows = planned()
    whole = [float(checksum(rows[step]["tokens"])) for step in range(start, len(rows))]
    assert found[0]["sums"] == found[1]["sums"] == whole
    assert len(whole) == len(rows) - start > 3


def both(*words: str | Path) -> list[subprocess.Popen[str]]:
    """The command on two hosts of one run, with a device each."""
    port = f"127.0.0.1:{free_port()}"
    joined = ("--coordinator", port, "--processes", "2")
    return [begin(*words[:1], *joined, "--process", str(n), *words[1:]) for n in (0, 1)]


@pytest.fixture
def words(config_file: Path, data: Callable[..., Path]) -> list[str | Path]:
    return [config_file, "--data", data(), "--epochs", "4", "--output"]


def stop_together(words: list[str | Path], output: Path) -> None:
    """Ask one of two hosts to stop; the other hears of it, and both save the same step."""
    # JAX looks for the signal once a second: saving every step makes them last until then.
    hosts = both(*words, output, "--save-every", "1")
    wait_for_step(output, 1, hosts[0])
    hosts[1].send_signal(signal.SIGTERM)
    ended = [end(host) for host in hosts]
    done = metrics(output)[-1]["step"]
    assert 1 <= done < 24 and newest(output) == done
    told = f"stopped at step {done} of 24, the state is saved; the same command goes on\n"
    for code, said in ended:
        assert code == 0 and said.endswith(f"critic-jax: {output}: {told}")


def test_two_processes_stop_together_go_on_and_leave_one_set_of_files(
    words: list[str | Path], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    stop_together(words, output)
    hosts = both(*words, output, "--save-every", "99")
    assert [end(host) for host in hosts] == [(0, "")] * 2
    lines = metrics(output)
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {p.name for p in output.iterdir()} == {
        *("critic", "metrics.jsonl", "plan.json", "run.json", "state", "tensorboard")
    }
    assert len(list((output / "tensorboard").iterdir())) == 2  # one of each start
    assert newest(output) == 24
    written = load_checkpoint(output / "critic")
    shaped = jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding), written.params
    )
    state = read_tree(output / "state" / "24", {"params": shaped})
    jax.tree.map(np.testing.assert_array_equal, state["params"], written.params)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_which_can_end_what_they_began(
    words: list[str | Path], tmp_path: Path
) -> None:
    """Up to rounding. That they go on with the bits of a run left alone, test_on_a_pod.py shows."""
    whole, one, moved = (tmp_path / name for name in ("whole", "one", "moved"))
    assert [end(host) for host in both(*words, whole)] == [(0, "")] * 2
    assert end(begin(*words, one)) == (0, "")
    for ours, expected in zip(metrics(whole), metrics(one), strict=True):
        assert ours["records"] == expected["records"]
        assert ours["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    stop_together(words, moved)
    assert end(begin(*words, moved)) == (0, "")
    assert metrics(moved)[-1]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
