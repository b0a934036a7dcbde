"""Models by hub id, against a stand-in of the hub: what is downloaded, kept, and told of errors."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_server import Hub, Ran, commit_of, run_verbs, serving
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_jax import Critic
from critic_jax.checkpoints import save_checkpoint
from critic_jax.checkpoints.export import export
from critic_jax.checkpoints.info import describe

# What may lie in a model's repository and must stay there: pickles run code when they are read.
UNWANTED = (
    "training_args.bin",
    "pytorch_model.bin",
    "model.pt",
    "README.md",
    "radar.png",
    "checkpoint-1000/extra.safetensors",
    "onnx/extra.json",
)
LINE = {"id": "1", "image": "red.png", "question": "Which digit is it?", "response": "A 7."}
# What must begin the line that tells of each.
WRONG = {
    "judges/none": "is no folder here, and the hub has no such model",
    "judges/tiny@v9": "has no revision 'v9' on the hub",
    "judges/gated": "asks for access: accept its terms on the hub",
    "judges/-_-": "is no folder here, and no name that a model on the hub can have",
    "judges/broken": "cannot be downloaded (",
}


@dataclass
class Place:
    """A served hub, the folders of its models, and a folder to work and to cache in.

    `runs`: how the commands ended that all ran in one process while the hub was there.
    """

    hub: Hub
    first: Path
    second: Path
    work: Path
    runs: dict[str, Ran]


def in_place(url: str, work: Path, commands: dict[str, list[str]]) -> dict[str, Ran]:
    """Run commands in the folder `work`, by any names."""
    ran = run_verbs(url, work / "cache", work, *commands.values())
    return dict(zip(commands, ran, strict=True))


def info(*models: str) -> dict[str, list[str]]:
    return {model: ["info", model, "--json"] for model in models}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two states of one model, served with everything else that may be in a repository."""
    home, work = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("work")
    for seed, name in enumerate(("first", "second")):
        save_checkpoint(home / f"{name}-ours", tiny_checkpoint(seed))
        export(str(home / f"{name}-ours"), home / name, "lmms-lab", shard=200_000)
        (home / name / "trainer_state.json").write_text("{}")
        for file in UNWANTED:
            (home / name / file).parent.mkdir(exist_ok=True)
            (home / name / file).write_bytes(b"\x80\x04cposix\nsystem\n.")
    first, second = home / "first", home / "second"
    shutil.copytree(first, work / "judges/here")
    Image.new("RGB", (16, 16), (200, 30, 30)).save(work / "red.png")
    (work / "in.jsonl").write_text(json.dumps(LINE) + "\n")
    judge = ["judge", "--model", "judges/tiny", "--input", "in.jsonl", "--output", "out.jsonl"]
    revisions = {"main": second, "v1": first, "refs/pr/3": first}
    names = ("tiny", "gated", "shaky", "broken", "here")
    hub = Hub(
        {f"judges/{name}": revisions for name in names},
        gated={"judges/gated"},
        shaky={"judges/shaky"},
        broken={"judges/broken"},
    )
    commands = {
        "convert": ["convert", "judges/tiny", "ours", "--json"],
        "judge": judge,
        **info("judges/tiny", "judges/tiny@v1", "judges/tiny@refs/pr/3"),
        **info(f"judges/tiny@{commit_of(first)}", "judges/shaky", "judges/here", *WRONG),
        "once more": ["info", "judges/broken", "--json"],
    }
    with serving(hub):
        yield Place(hub, first, second, work, in_place(hub.url, work, commands))


def fingerprint_in(ran: Ran) -> str:
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)["fingerprint"]


def test_every_verb_takes_a_hub_id(place: Place) -> None:
    expected = describe(place.second)["fingerprint"]
    assert fingerprint_in(place.runs["judges/tiny"]) == expected
    for verb in ("convert", "judge"):
        assert (place.runs[verb].code, place.runs[verb].err) == (0, "")
    assert json.loads(place.runs["convert"].out)["source"] == "judges/tiny"
    ours = describe(place.work / "ours")
    assert ours["fingerprint"] == expected
    assert (ours["meta"]["name"], ours["meta"]["from"]) == ("tiny", "judges/tiny")
    judged = json.loads((place.work / "out.jsonl").read_text())
    with_files = Critic.load(place.second)
    again = with_files.score(place.work / "red.png", LINE["question"], LINE["response"])
    assert (judged["model"], judged["raw"]) == ("tiny", again.raw)


def test_only_what_is_needed_is_downloaded_and_once(place: Place) -> None:
    sent = place.hub.sent("judges/tiny")
    weights = {p.name for p in place.second.glob("*.safetensors")}
    assert len(weights) > 1 and weights | {"config.json", "tokenizer.json"} <= set(sent)
    assert not {Path(file).name for file in UNWANTED} & set(sent)
    cached = {p.name for p in (place.work / "cache").rglob("*")}
    assert "config.json" in cached and not {Path(file).name for file in UNWANTED} & cached
    # Of two revisions, the second one under three names; equal files are one.
    assert sent.count("config.json") <= 2 and all(sent.count(name) <= 2 for name in sent)


def test_what_was_downloaded_works_without_the_hub(place: Place) -> None:
    asked = len(place.hub.asked)
    # Nothing listens at port 1.
    commands = info("judges/tiny", "judges/tiny@v1", "judges/other")
    ran = in_place("http://127.0.0.1:1", place.work, commands)
    for name in ("judges/tiny", "judges/tiny@v1"):
        assert ran[name] == place.runs[name]
    other = ran["judges/other"]
    said = "judges/other: is no folder here, and the hub cannot be reached for all of it ("
    assert (other.code, other.out) == (2, "")
    assert other.err.startswith(f"critic-jax: error: {said}") and "refused" in other.err
    assert other.err.count("\n") == 1
    assert len(place.hub.asked) == asked


@pytest.mark.parametrize("revision", ["v1", "refs/pr/3", "the commit"])
def test_a_revision_is_kept_to(place: Place, revision: str) -> None:
    revision = commit_of(place.first) if revision == "the commit" else revision
    name = f"judges/tiny@{revision}"
    expected = describe(place.first)["fingerprint"]
    assert expected != describe(place.second)["fingerprint"]
    assert fingerprint_in(place.runs[name]) == expected
    meta = json.loads(place.runs[name].out)["meta"]
    assert (meta["name"], meta["from"]) == ("tiny", name)


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_had_is_one_line(place: Place, name: str) -> None:
    ran = place.runs[name]
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"critic-jax: error: {name}: {WRONG[name]}"), ran.err
    assert ran.err.count("\n") == 1 and len(ran.err) < 400


def test_the_next_try_fetches_what_is_missing(place: Place) -> None:
    assert "files that came whole are kept" in place.runs["judges/broken"].err
    assert fingerprint_in(place.runs["once more"]) == describe(place.second)["fingerprint"]


def test_a_connection_that_breaks_once_does_no_harm(place: Place) -> None:
    assert fingerprint_in(place.runs["judges/shaky"]) == describe(place.second)["fingerprint"]
    assert place.hub.sent("judges/shaky").count("config.json") == 2


def test_a_folder_of_that_name_is_taken_instead(place: Place) -> None:
    assert fingerprint_in(place.runs["judges/here"]) == describe(place.first)["fingerprint"]
    assert not [line for line in place.hub.asked if "judges/here" in line]
