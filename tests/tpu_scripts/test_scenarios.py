"""What befalls a pod, and what its scripts make of it: each ends saying what is still billed."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pod_world import PodWorld

CREATE = ("queued-resources", "create")
DELETE = ("queued-resources", "delete")
NONE_BILLED = "no pod critic is there, none is billed"
BILLED = "is ACTIVE and BILLED until it is deleted: "

HANG = "sleep 100 & wait"  # as a host does whose peers are gone; asked to stop, it does


@pytest.fixture
def world(tmp_path: Path) -> Iterator[PodWorld]:
    made = PodWorld(tmp_path)
    yield made
    made.end()


def wait_for_steps(world: PodWorld, steps: int) -> None:
    until = time.monotonic() + 30
    while not (world.bucket / "runs/first/metrics.jsonl").exists() or len(world.steps()) < steps:
        assert time.monotonic() < until
        time.sleep(0.02)


def interrupt(world: PodWorld, script: str, behind: str) -> str:
    """Ctrl-C in the script's terminal, once it has said that; all that it says."""
    process, said = world.begin(script), ""
    assert process.stdout is not None
    while behind not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    return said + rest


def test_a_run_from_settings_to_its_end_leaves_nothing(world: PodWorld) -> None:
    code, said = world.call("run.sh", "--delete")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "run.sh: done: gs://my-critic/runs/first" in said and NONE_BILLED in said
    assert world.pods() == {} and world.count(*CREATE) == world.count(*DELETE) == 1
    (attempt,) = (world.bucket / "logs/first").iterdir()
    logs = {log.name: log.read_text() for log in attempt.iterdir()}
    assert sorted(logs) == ["critic-w-0.log", "critic-w-1.log"]
    # The first worker may have taken a step before the second one looks.
    assert re.fullmatch(r"critic-w-1 begins behind step \d\n", logs["critic-w-1.log"])
    kept = (world.here / "runs/pods/critic/log").read_text()
    assert "create.sh: asking for critic (v4-16" in kept and "run.sh: done" in kept


def test_a_request_waits_for_its_chips(world: PodWorld) -> None:
    states = ["ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING"]
    world.plan(create=[{"states": [*states, "ACTIVE"]}])
    code, said = world.call("create.sh")
    told = [line.split()[-1] for line in said.splitlines() if ": critic is " in line]
    assert code == 0 and told == [*dict.fromkeys(states), "ACTIVE"]
    assert "is there and BILLED until it is deleted: " in said.splitlines()[-1]
    # What is there is left as it is.
    code, said = world.call("create.sh")
    assert code == 0 and "is there already" in said and world.count(*CREATE) == 1


def test_a_request_that_runs_out_is_removed(world: PodWorld) -> None:
    world.plan(create=[{"states": ["WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "FAILED"]}])
    code, said = world.call("create.sh")
    assert code == 1 and "did not come" in said
    assert NONE_BILLED in said and world.pods() == {}


def test_a_lack_of_quota_is_told_once(world: PodWorld) -> None:
    world.plan(create=[{"error": "RESOURCE_EXHAUSTED: Quota limit 'TPUV4PodPerProject' exceeded"}])
    code, said = world.call("run.sh")
    assert code == 2 and "Quota limit 'TPUV4PodPerProject' exceeded" in said
    assert "create.sh: error: the service refused the request" in said
    assert NONE_BILLED in said and world.count(*CREATE) == 1


def test_a_pod_taken_away_twice_is_asked_for_again_and_the_run_goes_on(world: PodWorld) -> None:
    world.plan(preempt_after=[1, 1])
    world.faults(f"critic-w-0 1 {HANG}", f"critic-w-0 3 {HANG}")
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert world.count(*CREATE) == 3 and world.count(*DELETE) == 2
    assert said.count("the pod is SUSPENDED") == 2
    assert "interrupted (2 of 5 allowed)" in said and BILLED in said
    # The versions that the first pod worked out serve the others.
    assert said.count("are worked out already") == 2
    assert len(list((world.bucket / "install").glob("*.txt"))) == 1


@pytest.mark.slow
def test_a_run_is_given_up_behind_its_last_restart(world: PodWorld) -> None:
    world.settings(RETRIES="1")
    world.plan(preempt_after=[0, 0, 0])
    code, said = world.call("run.sh")
    assert code == 1 and "given up after 1 restarts" in said
    assert world.count(*CREATE) == 2
    assert "its chips are gone and not billed" in said


def test_a_worker_that_fails_is_named_and_not_started_again(world: PodWorld) -> None:
    fails = "critic-w-1 2 echo 'ValueError: too few heads' >&2; exit 7"
    world.faults(f"critic-w-0 2 {HANG}", fails)
    code, said = world.call("run.sh")
    assert code == 1 and "worker 1 of critic failed first, exit code 7" in said
    assert "ValueError: too few heads" in said and "== critic-w-1" in said
    assert world.count(*CREATE) == 1 and "interrupted (" not in said
    assert BILLED in said and world.pods() == {"critic": "ACTIVE"}
    # The other worker does not go on alone.
    assert world.steps() == [1, 2]
    code, said = world.call("status.sh")
    assert code == 0 and "is=ended code=7" in said and "is=stopped" in said
    code, said = world.call("logs.sh", "--worker", "1")
    assert code == 0 and "too few heads" in said and "critic-w-0" not in said


@pytest.mark.slow
def test_a_run_that_fails_is_deleted_where_that_was_asked_for(world: PodWorld) -> None:
    world.faults("critic-w-0 1 exit 1")
    code, said = world.call("run.sh", "--delete")
    assert code == 1 and "worker 0 of critic failed first" in said
    assert NONE_BILLED in said and world.pods() == {}


def test_a_connection_refused_once_is_tried_again(world: PodWorld) -> None:
    world.plan(refuse_ssh=1)
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "did not work; again in" in said and world.count(*CREATE) == 1


def test_an_abort_in_the_queue_says_what_is_still_asked_for(world: PodWorld) -> None:
    world.plan(create=[{"states": ["WAITING_FOR_RESOURCES"]}])
    said = interrupt(world, "run.sh", "critic is WAITING_FOR_RESOURCES")
    assert "is still in the queue and is BILLED once it is met" in said
    code, said = world.call("delete.sh", "--yes")
    assert code == 0 and world.pods() == {}


def test_an_abort_of_the_watch_leaves_the_job_and_says_so(world: PodWorld) -> None:
    world.faults(f"critic-w-0 1 while [ ! -e {world.folder}/go ]; do sleep 0.1; done")
    said = interrupt(world, "run.sh", "2 of 2 workers are running")
    assert "a job that was started goes on" in said and BILLED in said
    (world.folder / "go").touch()
    wait_for_steps(world, 6)
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "already installed" in said and world.count(*CREATE) == 1


def test_a_pod_where_another_job_runs_is_not_deleted(world: PodWorld) -> None:
    world.faults(f"critic-w-0 1 while [ ! -e {world.folder}/go ]; do sleep 0.1; done")
    interrupt(world, "run.sh", "2 of 2 workers are running")
    world.settings(FIELDS="--seed 2")
    code, said = world.call("run.sh", "--delete")
    assert code == 1 and "another job is running here" in said and BILLED in said
    assert world.pods() == {"critic": "ACTIVE"}
    (world.folder / "go").touch()
    wait_for_steps(world, 6)


def test_a_job_that_writes_nothing_is_started_again(world: PodWorld) -> None:
    # Long enough for a machine that is busy with much else.
    world.settings(STUCK_MINUTES="0.05")
    world.faults("critic-w-0 3 trap '' TERM; sleep 60 & wait")
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "stuck: nothing was written for 0.05 minutes" in said and world.count(*CREATE) == 1


@pytest.mark.slow
def test_a_pod_whose_machines_never_answer_is_replaced(world: PodWorld) -> None:
    # The pod that answers must have the time to, however busy this machine is.
    world.settings(STUCK_MINUTES="0.2", ANSWER="15")
    world.plan(silent=1)
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "stuck: workers did not answer for 0.2 minutes" in said
    assert world.count(*CREATE) == 2 and world.count(*DELETE) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [
        ("critic-w-0 2 kill -TERM $$", "critic-w-1 2 kill -TERM $$"),
        # Judging ends by the signal itself, and its other workers fail for want of the first.
        ("critic-w-0 2 sleep 3; exit 1", "critic-w-1 2 trap - TERM; kill -TERM $$"),
    ],
    ids=["that saves its state", "that has none"],
)
def test_a_job_that_is_told_to_stop_goes_on(faults: tuple[str, str], world: PodWorld) -> None:
    world.faults(*faults)
    code, said = world.call("run.sh")
    assert code == 0 and world.steps() == [1, 2, 3, 4, 5, 6]
    assert "the job was told to stop" in said and world.count(*CREATE) == 1


@pytest.mark.slow
def test_all_workers_of_several_slices_take_part(world: PodWorld) -> None:
    world.settings(SLICES="2", TYPE="v6e-16", BILLING="reserved")
    assert world.call("run.sh", "--delete")[0] == 0
    assert world.count(*CREATE, "--node-count=2", "--node-prefix=critic", "--reserved") == 1
    assert len(list(world.bucket.glob("logs/first/*/critic-[01]-w-[0-3].log"))) == 8


def test_deleting_asks_first(world: PodWorld) -> None:
    assert world.call("create.sh")[0] == 0
    code, said = world.call("delete.sh", answer="n\n")
    assert code == 1 and BILLED in said and world.pods() == {"critic": "ACTIVE"}
    code, said = world.call("delete.sh")  # nobody answers
    assert code == 1 and world.pods() == {"critic": "ACTIVE"}
    code, said = world.call("delete.sh", answer="y\n")
    assert code == 0 and NONE_BILLED in said and world.pods() == {}
    code, said = world.call("delete.sh")
    assert code == 0 and NONE_BILLED in said and world.count(*DELETE) == 1


def test_a_finished_run_is_fetched_without_its_states(world: PodWorld) -> None:
    run = world.bucket / "runs/first"
    for name in ("critic/critic.json", "state/3/a", "metrics.jsonl"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    code, said = world.call("fetch.sh")
    assert code == 0 and "tensorboard --logdir runs/first/tensorboard" in said
    there = world.here / "runs/first"
    assert sorted(p.name for p in there.rglob("*") if p.is_file()) == [
        "critic.json",
        "metrics.jsonl",
    ]
    (world.bucket / "logs/first/a").mkdir(parents=True)
    (world.bucket / "logs/first/a/w.log").write_text("words")
    assert world.call("logs.sh", "--fetch")[0] == 0
    assert (world.here / "runs/pods/critic/logs/first/a/w.log").read_text() == "words"
