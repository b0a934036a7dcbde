"""Video detailed captioning: frames drawn from a file, answered, and marked by the true answer."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from published_records import VIDEO, records, write_set, write_video

from critic_jax.cli import main
from critic_jax.data import read_json_lines
from critic_jax.errors import InputError
from critic_jax.evaluation.benchmarks.frames import frames
from critic_jax.files import write_json_lines


def words(tmp_path: Path, *more: str, found: list[dict[str, Any]] | None = None) -> list[str]:
    data = write_set(tmp_path / "data", "video-dc", found or records("video-dc"))
    said = ["evaluate", "benchmark", "video-dc", "--data", str(data), "--judge", "x"]
    said += ["--images", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    return [*said, "--model", "me", "--resamples", "5", "--json", *more]


def shades(pictures: list[Any]) -> list[int]:
    """How bright each picture is, as the number of its frame."""
    return [round(float(np.asarray(Image.open(one)).mean()) / 10) for one in pictures]


@pytest.mark.parametrize(
    ("whole", "count", "places"),
    [
        (20, 4, [0, 6, 12, 19]),  # numpy.linspace(0, 19, 4, dtype=int)
        (20, 1, [0]),
        (20, 8, [0, 2, 5, 8, 10, 13, 16, 19]),
        (3, 8, [0, 1, 2]),
    ],
)
def test_frames_are_spread_from_the_first_to_the_last(
    tmp_path: Path, whole: int, count: int, places: list[int]
) -> None:
    found = frames(write_video(tmp_path / "a.mp4", whole), count)
    files = [tmp_path / f"{n}.jpg" for n in range(len(found))]
    for file, content in zip(files, found, strict=True):
        file.write_bytes(content)
    assert shades(list(files)) == places
    if whole > count:
        assert places == np.linspace(0, whole - 1, count, dtype=int).tolist()


def test_a_policys_captions_are_marked_by_the_answer_alone(
    tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    critic = says("{'score': 4}")
    name = "test-00000-of-00001-1"
    answers = write_json_lines(tmp_path / "a.jsonl", [{"id": name, "response": "Grey, it seems."}])
    assert main(words(tmp_path, "--answers", str(answers), "--frames", "5")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"]["unparsed_wrong"]["value"] == 4 and "hallucination_rate" not in found
    assert found == json.loads((tmp_path / "out/score.json").read_text())
    (asked,) = critic.asked
    assert "Describe the video." in asked and "Correct Answer: It gets brighter." in asked
    assert "Predicted Answer: Grey, it seems." in asked
    ((_, prompt),) = read_json_lines(tmp_path / "out/prompts.jsonl")
    assert prompt["prompt"] == "Describe the video."
    assert shades([tmp_path / "out" / image for image in prompt["image"]]) == [0, 4, 9, 14, 19]
    ((_, judged),) = read_json_lines(tmp_path / "out/input.jsonl")
    assert "image" not in judged and judged["template"] == "video-dc"


def test_other_endings_are_found(tmp_path: Path, says: Any) -> None:
    says("{'score': 1}")
    said = words(tmp_path, "--answers", str(tmp_path / "a.jsonl"))
    write_json_lines(tmp_path / "a.jsonl", [{"id": "test-00000-of-00001-1", "response": "Hm."}])
    (tmp_path / "data" / f"{VIDEO}.mp4").unlink()
    write_video(tmp_path / "data" / f"{VIDEO}.mkv")
    assert main(said) == 0


@pytest.mark.parametrize("field", ["video_name", "question", "answer"])
def test_a_missing_field_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    found = records("video-dc")
    del found[0][field]
    assert main(words(tmp_path, found=found)) == 2
    told = capsys.readouterr().err
    assert f"row 1: field '{field}' is missing" in told and told.count("\n") == 1
    assert not (tmp_path / "out/prompts.jsonl").exists()


def damage(path: Path, how: str) -> None:
    if how == "absent":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif how == "cut":  # the index of an mp4 file stands at its end
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "a sound":
        write_sound(path)


def write_sound(path: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("how", "right"),
    [
        ("absent", f"names {VIDEO}, and none of .mp4, .MP4, .mkv of that name is in"),
        ("empty", "cannot be decoded as a video"),
        ("a text", "cannot be decoded as a video"),
        ("cut", "cannot be decoded as a video"),
        ("a sound", "holds no video"),
    ],
)
def test_a_damaged_video_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: str, right: str
) -> None:
    said = words(tmp_path)
    damage(tmp_path / "data" / f"{VIDEO}.mp4", how)
    assert main(said) == 2
    told = capfd.readouterr().err
    assert "row 1: field 'video_name'" in told and right in told and told.count("\n") == 1
    assert not (tmp_path / "out/prompts.jsonl").exists()


def test_without_pyav_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = words(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(said) == 2
    assert "pip install 'critic-jax[video]'" in capsys.readouterr().err


def test_a_wrong_count_of_frames_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--frames", "0")) == 2
    assert "--frames is 0; it must be at least 1" in capsys.readouterr().err
    (tmp_path / "no.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be decoded"):
        frames(tmp_path / "no.mp4", 4)
