"""The scripts on their own: their form, their help, the settings, what a dry run prints."""

import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pod_gcloud
import pytest
from pod_world import SCRIPTS, PodWorld

from critic_jax.checkpoints.publish import building_folder
from critic_jax.cli import VERBS

# common.sh is sourced, worker.sh lives on a worker.
USER = sorted(p for p in SCRIPTS.glob("*.sh") if p.name not in ("common.sh", "worker.sh"))
COMING: set[str] = set()


@pytest.fixture
def world(tmp_path: Path) -> PodWorld:
    return PodWorld(tmp_path)


def test_shellcheck_finds_nothing() -> None:
    # Its wheel has no module: the program lies beside Python.
    beside = sysconfig.get_path("scripts")
    program = shutil.which("shellcheck", path=beside) or shutil.which("shellcheck")
    assert program is not None, "pip install '.[test]' brings shellcheck"
    call = [program, "--external-sources", *sorted(SCRIPTS.glob("*.sh"))]
    done = subprocess.run(call, cwd=SCRIPTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", USER, ids=lambda path: path.name)
def test_each_script_tells_what_it_does_without_settings(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and f"tpu_scripts/{script.name} [--dry-run]" in done.stdout
    assert "shellcheck" not in done.stdout and list(tmp_path.iterdir()) == []
    done = subprocess.run([script], cwd=tmp_path, capture_output=True, text=True)
    assert "no settings: pod.env is not there" in done.stderr and done.stderr.count("\n") == 1
    assert done.returncode == 2 and list(tmp_path.iterdir()) == []


def test_the_page_about_pods_has_every_script_and_setting() -> None:
    page = (SCRIPTS.parent / "docs/pods.md").read_text()
    named = set(re.findall(r"`(?:tpu_scripts/)?(\w+\.sh)[` ]", page))
    assert named == {path.name for path in USER}
    example = (SCRIPTS / "pod.env.example").read_text()
    settings = set(re.findall(r"^([A-Z_]+)=", example, re.M))
    rows = re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", page, re.M)
    assert {name for row in rows for name in re.findall("[A-Z_]+", row)} == settings | {
        *("POLL", "ANSWER", "GRACE")
    }


def test_sizes_are_those_that_were_compiled() -> None:
    """A row of docs/sizes.md repeats numbers of a row of docs/aot.md, and none of its own."""
    docs = SCRIPTS.parent / "docs"
    compiled = {
        (cells[1], cells[2], cells[4])
        for cells in table(docs / "aot.md")
        if len(cells) == 6 and ":" in cells[1]
    }
    sizes = [cells for cells in table(docs / "sizes.md") if len(cells) == 8 and ":" in cells[1]]
    assert {(cells[1], cells[5], cells[6]) for cells in sizes} == compiled and len(sizes) == 6


def table(page: Path) -> list[list[str]]:
    """The cells of every row of the page's tables."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_verbs_that_jobs_run_exist() -> None:
    text = "".join(path.read_text() for path in USER)
    verbs = set(re.findall(r"critic-jax (\w+) ", text))
    assert {"train", "judge", "convert", "serve"} <= verbs <= set(VERBS) | COMING


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"TYPE": "v3-8"}, "TYPE=v3-8; it should begin with v4, v5e, v5p or v6e"),
        ({"TYPE": "v5e"}, "TYPE=v5e; it should be like v5e-32"),
        ({"BUCKET": "my-critic"}, "BUCKET=my-critic; it should be like gs://my-bucket"),
        ({"BILLING": "cheap"}, "BILLING=cheap; it should be spot, reserved or on-demand"),
        ({"POD": "My_Pod"}, "POD=My_Pod; it should be lower-case letters"),
        ({"STUCK_MINUTES": "soon"}, "STUCK_MINUTES=soon; it should be a number"),
        ({"POLL": "often"}, "POLL=often; it should be a number"),
        ({"ZONE": "us-west4"}, "ZONE=us-west4; it should be a zone like us-west4-a"),
        ({"SLICE": "2"}, "no setting is called SLICE; there are PROJECT ZONE "),
        ({"PROJECT": ""}, "PROJECT is not set"),
    ],
)
def test_a_wrong_setting_is_one_line(world: PodWorld, setting: dict[str, str], said: str) -> None:
    world.settings(**setting)
    code, told = world.call("create.sh")
    assert code == 2 and told.startswith("create.sh: error: pod.env: ") and said in told
    assert told.count("\n") == 1 and world.calls() == []


def test_settings_that_no_shell_reads_are_told(world: PodWorld) -> None:
    file = world.here / "pod.env"
    for wrong, said in (('FIELDS="--rows 1\n', "unexpected EOF"), ("RUN first\n", "not found")):
        world.settings()
        file.write_text(wrong + file.read_text())
        code, told = world.call("create.sh")
        assert code == 2 and said in told and world.calls() == []
        assert told.endswith("create.sh: error: pod.env: a line is no setting (above)\n")


@pytest.mark.parametrize(
    ("words", "setting", "said"),
    [
        (["judge", "bucket/critic"], {}, "judge.sh: error: give the model and the input"),
        (["--delete", "convert"], {}, "convert.sh: error: give the model and the name"),
        ([], {"CONFIG": ""}, "train_critic.sh: error: CONFIG is not set in pod.env"),
    ],
)
def test_what_a_job_lacks_is_told_before_a_pod_is_asked_for(
    words: list[str], setting: dict[str, str], said: str, world: PodWorld
) -> None:
    world.settings(**setting)
    code, told = world.call("run.sh", *words)
    assert code == 2 and said in told and told.count("\n") == 1 and world.calls() == []


def test_an_option_of_a_run_is_one_behind_its_job_too(world: PodWorld) -> None:
    code, said = world.call("run.sh", "train_critic", "--rows", "4", "--delete", "--dry-run")
    assert code == 0 and world.calls() == []
    assert "queued-resources delete critic" in said and "--delete" not in "".join(remote(said))


@pytest.mark.parametrize("words", [[], ["x"], ["0", "1"]])
def test_a_worker_is_named_by_its_number(words: list[str], world: PodWorld) -> None:
    code, said = world.call("logs.sh", "--worker", *words)
    assert code == 2 and said.count("\n") == 1 and world.calls() == []
    assert said.startswith(" ".join(["logs.sh: error: --worker", *words]) + "; it should be a ")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        *(("setup.sh", []), ("train_critic.sh", []), ("align.sh", []), ("serve.sh", ["m"])),
        *(("judge.sh", ["m", "i"]), ("convert.sh", ["org/model", "start"])),
    ],
)
def test_what_uses_a_pod_says_that_it_is_billed(
    script: str, words: list[str], world: PodWorld
) -> None:
    world.settings(TYPE="v5e-8")
    _, said = world.call(script, "--dry-run", *words)
    assert "; critic is BILLED until it is deleted: " in said


def test_a_model_that_is_being_converted_is_watched_where_it_grows(world: PodWorld) -> None:
    _, said = world.call("convert.sh", "org/model", "start", "--dry-run")
    (asked,) = (shlex.split(words) for words in remote(said))
    grows = building_folder(Path("bucket/models/start"))
    assert asked[asked.index("--") - 1] == str(grows)


def test_judging_is_shared_out_among_all_workers(world: PodWorld) -> None:
    words = ("bucket/critic", "pairs/input.jsonl", "--order", "both", "--dry-run")
    code, said = world.call("judge.sh", *words)
    assert code == 0 and "--worker=all" in said
    asked = shlex.split(remote(said)[-1])
    assert asked[asked.index("--") + 1 :] == [
        *("critic-jax", "judge", "--model", "bucket/critic", "--input", "bucket/pairs/input.jsonl"),
        *("--output", "bucket/runs/first/results.jsonl", "--order", "both"),
    ]


def test_an_endpoint_is_started_and_the_way_to_it_told(world: PodWorld) -> None:
    code, said = world.call("serve.sh", "bucket/critic")
    assert (
        code == 2
        and "TYPE=v4-16, SLICES=1 has 2 machines, and critic-jax serve runs on one" in said
    )
    world.settings(TYPE="v5e-8")
    code, said = world.call("serve.sh")
    assert code == 2 and "give the model" in said
    code, said = world.call("serve.sh", "bucket/critic", "--weights", "int8", "--dry-run")
    asked = shlex.split(remote(said)[-1])
    assert code == 0 and asked[asked.index("--") + 1 :] == [
        *("critic-jax", "serve", "--model", "bucket/critic", "--port", "8000"),
        *("--weights", "int8"),
    ]
    assert "-- -N -L 8000:127.0.0.1:8000" in said


def printed(said: str) -> list[list[str]]:
    """The words of each command that was printed."""
    return [shlex.split(line[2:]) for line in said.splitlines() if line.startswith("+ ")]


def remote(said: str) -> list[str]:
    """What was to run on workers."""
    words = [word for command in printed(said) for word in command]
    return [w.removeprefix("--command=") for w in words if w.startswith("--command=")]


def test_a_dry_run_prints_the_whole_of_a_critic_run_on_32_chips(world: PodWorld) -> None:
    """The walk of docs/pods.md, with the settings that come along."""
    shutil.copy(SCRIPTS / "pod.env.example", world.here / "pod.env")
    code, said = world.call("run.sh", "--dry-run")
    assert code == 0 and world.calls() == []
    assert [p.name for p in world.here.iterdir()] == ["pod.env"]
    commands = [command[1:] for command in printed(said) if command[0] == "gcloud"]
    parsed = [pod_gcloud.parse(words) for words in commands]
    assert [name.removeprefix("compute tpus ") for name, _, _ in parsed] == [
        *("storage buckets describe", "storage buckets create"),
        *("queued-resources describe", "queued-resources create", "queued-resources describe"),
        *("storage cp", "tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh"),
        *("queued-resources describe", "tpu-vm ssh"),
    ]
    # The bucket that the page makes for the import is the one that create.sh would make.
    page = (SCRIPTS.parent / "docs/pods.md").read_text()
    (made,) = re.findall(r"^gcloud (storage buckets create .*)$", page, re.M)
    assert pod_gcloud.parse(shlex.split(f"{made} --quiet")) == parsed[1]
    asked = parsed[3][2]
    assert asked["--accelerator-type"] == "v5litepod-32" and "--spot" in asked
    lock, setup, start, state = (shlex.split(words) for words in remote(said))
    assert lock[:3] == ["bash", "critic-worker.sh", "lock"]
    assert setup[2] == "setup" and state[2:] == ["state", "critic-7b"]
    assert start[start.index("--") + 1 :] == [
        *("critic-jax", "train", "critic_7b", "--output", "bucket/runs/critic-7b"),
        *("--data", "gs://my-project-critic/critic-113k"),
        *("--init", "lmms-lab/llava-onevision-qwen2-7b-ov", "--rows", "32", "--tensor", "1"),
    ]


@pytest.mark.parametrize("script", USER, ids=lambda path: path.name)
def test_a_dry_run_does_nothing_and_prints_what_the_pages_know(
    script: Path, world: PodWorld
) -> None:
    world.settings(TYPE="v5e-8")
    words = {"convert.sh": ["org/model", "start"], "judge.sh": ["m", "i"], "run.sh": ["align"]}
    words["serve.sh"] = ["m"]
    code, said = world.call(script.name, "--dry-run", *words.get(script.name, []))
    assert code == 0 and world.calls() == [], said
    assert [p.name for p in world.here.iterdir()] == ["pod.env"]
    commands = [command[1:] for command in printed(said) if command[0] == "gcloud"]
    assert commands and all(pod_gcloud.parse(words) for words in commands)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compute", "tpus", "queued-resources", "resize", "a"), "Invalid choice"),
        (("storage", "cp", "a", "gs://b/a", "--project=p", "--fast"), "unrecognized arguments"),
        (("storage", "cp", "a", "--project=p"), "2 positional arguments"),
        (("storage", "cp", "a", "gs://b/a"), "project and zone must be given"),
    ],
)
def test_the_stand_in_refuses_what_no_page_names(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(pod_gcloud.Refused, match=said):
        pod_gcloud.parse(list(words))
