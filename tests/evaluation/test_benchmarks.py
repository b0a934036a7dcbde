"""Published sets: read in their own layout, judged and scored by one command; damaged ones told."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_records import HASH, REFERENCE, records, write_set
from tiny_critic import tiny_checkpoint

from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main
from critic_jax.data import read_json_lines
from critic_jax.evaluation.benchmarks.judge_sets import JUDGE_SETS
from critic_jax.evaluation.benchmarks.policy_sets import POLICY_SETS
from critic_jax.evaluation.verbs import Name
from critic_jax.files import write_json_lines

ALL = [*JUDGE_SETS, *POLICY_SETS]


def lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_json_lines(path)]


def words(tmp_path: Path, name: str, found: list[dict[str, Any]], *more: str) -> list[str]:
    data = write_set(tmp_path / "data", name, found)
    said = ["evaluate", "benchmark", name, "--data", str(data), "--output", str(tmp_path / "out")]
    if name == "wildvision-verdicts":
        said += ["--images", str(tmp_path / "data")]
    return [*said, *more]


def test_the_command_knows_every_reader() -> None:
    assert set(Name.__args__) == set(ALL)


@pytest.mark.parametrize("name", JUDGE_SETS)
def test_a_judges_set_becomes_input_and_labels(tmp_path: Path, name: str) -> None:
    assert main(words(tmp_path, name, records(name))) == 0
    asked, labels = (lines(tmp_path / "out" / f"{n}.jsonl") for n in ("input", "labels"))
    assert [a["id"] for a in asked] == [b["id"] for b in labels]
    for line in asked:
        assert (tmp_path / "out" / line["image"]).is_file()
    expected: dict[str, list[dict[str, Any]]] = {
        "wildvision-arena": [{"verdict": "A", "model_a": "gpt-4o", "model_b": "llava"}],
        "wildvision-verdicts": [{"verdict": "B>>A", "model_a": REFERENCE, "model_b": "gpt-4o"}],
        "mllm-judge": [
            {"verdict": "tie", "group": "coco", "model_a": "gpt4", "model_b": "gemini"},
            {"score": 4, "group": "coco", "model": "gpt4"},
            {"ranking": [2, 0, 1], "group": "coco"},
        ],
        # The answers of the first pair are turned: their lengths' sum is odd.
        "vl-rewardbench": [
            {"verdict": "A", "group": "reasoning"},
            {"verdict": "B", "group": "hallucination"},
        ],
        "mm-rewardbench": [
            {"verdict": "B", "group": "safety/bias"},
            {"verdict": "A", "group": "vqa"},
        ],
    }
    assert [{k: v for k, v in one.items() if k != "id"} for one in labels] == expected[name]
    if name == "vl-rewardbench":
        assert (asked[0]["response_a"], asked[0]["response_b"]) == ("It is 6.", "5")
        assert (asked[1]["response_a"], asked[1]["response_b"]) == ("Re", "Blue.")
    if name == "wildvision-verdicts":
        assert asked[0]["question"] == "What is this?"
        assert asked[0]["response_a"] == "A square.\n\nBlue."
        assert asked[0]["response_b"] == "A violet picture."


# What each judge is told to say, and the share of labels that it meets with it.
SAYS = {
    "wildvision-arena": ("My final verdict is: [[A>B]]", 1.0),
    "wildvision-verdicts": ("My final verdict is: [[B>>A]]", 1.0),
    "vl-rewardbench": ("Overall Judgment: Answer 1 is better.", 0.5),
    "mm-rewardbench": ("[[A]]", 0.5),
}


@pytest.mark.parametrize("name", SAYS)
def test_one_command_judges_and_scores(
    tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    text, accuracy = SAYS[name]
    says(text)
    more = ("--judge", "x", "--json", "--resamples", "5")
    assert main(words(tmp_path, name, records(name), *more)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairwise"]["accuracy"]["unparsed_wrong"]["value"] == accuracy
    assert found["unparsed_rate"] == 0
    assert json.loads((tmp_path / "out/agreement.json").read_text()) == found
    battles = tmp_path / "out/battles.jsonl"
    assert battles.exists() == name.startswith("wildvision")


def test_mllm_judge_scores_all_three_tasks(
    tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    best = ["Says cog.", "Says gpt4.", "Says llava."]

    def say(prompt: str) -> str:
        if "[Assistant 1]" in prompt:  # a batch is ranked in pairs
            first, second = sorted((text for text in best if text in prompt), key=prompt.index)
            return "9 2\n..." if best.index(first) < best.index(second) else "2 9\n..."
        return "Judgement: [[C]]" if "Assistant B" in prompt else "Judgement: [[4]]"

    says(say)
    more = ("--judge", "x", "--json", "--resamples", "5")
    assert main(words(tmp_path, "mllm-judge", records("mllm-judge"), *more)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairwise"]["accuracy"]["unparsed_wrong"]["value"] == 1.0
    assert found["pointwise"]["unparsed_rate"]["value"] == 0.0
    # B, C, A is two steps from C, A, B: B out in front, B in at the end.
    distance = found["ranking"]["levenshtein"]["unparsed_wrong"]["value"]
    assert distance == pytest.approx(2 / 3, abs=1e-12)


DAMAGE = [
    ("wildvision-arena", {"winner": "model_c"}, "field 'winner' is 'model_c'; it should be one of"),
    ("wildvision-arena", {"conversation_b": []}, "field 'conversation_b' is"),
    ("wildvision-arena", {"model_a": None}, "field 'model_a' is missing"),
    ("wildvision-arena", {"image": {"bytes": b"no", "path": None}}, "'image' holds no picture"),
    ("wildvision-verdicts", {"games": None}, "field 'games' is missing"),
    ("wildvision-verdicts", {"games": [{"score": "A=B"}]}, "it should be an object with user_pro"),
    (
        "mllm-judge",
        {"human_answer": "D"},
        "'human_answer' is 'D'; it should be one of A, B, C",
    ),
    ("mllm-judge", {"instruction": None}, "field 'instruction' is missing"),
    ("mllm-judge", {"image_path": "lost.png"}, "names lost.png, which is not in"),
    ("vl-rewardbench", {"human_ranking": [1, 1]}, "it should be [0, 1] or [1, 0]"),
    ("vl-rewardbench", {"query": None}, "field 'query' is missing"),
    ("vl-rewardbench", {"image": None}, "field 'image' is missing"),
    ("mm-rewardbench", {"Better": "Output3"}, "it should be one of Output1, Output2"),
    ("mm-rewardbench", {"Text": None}, "field 'Text' is missing"),
    ("mm-rewardbench", {"Image": None}, "field 'Image' is missing"),
    ("llava-in-the-wild", {"category": "odd"}, "it should be one of conv, detail, complex"),
    ("llava-in-the-wild", {"gpt_answer": None}, "field 'gpt_answer' is missing"),
    ("llava-in-the-wild", {"image": None}, "field 'image' is missing"),
    ("llava-wilder", {"Answer": None}, "field 'Answer' is missing"),
    ("llava-wilder", {"image": {"bytes": b"", "path": "x.png"}}, "holds no picture"),
    ("wildvision-bench", {REFERENCE: None}, f"field '{REFERENCE}' is missing"),
    ("wildvision-bench", {"image": None}, "field 'image' is missing"),
    ("livebench", {"subtask": None}, "field 'subtask' is missing"),
    ("livebench", {"images": None}, "field 'images' is missing"),
    ("livebench", {"criteria": None}, "field 'criteria' is missing"),
    ("mmhal", {"image_content": "tree"}, "field 'image_content' is 'tree'"),
    ("mmhal", {"gt_answer": None}, "field 'gt_answer' is missing"),
    ("mmhal", {"image_src": "https://x.org/gone.jpg"}, "names gone.jpg, which is not in"),
]


@pytest.mark.parametrize(("name", "damage", "right"), DAMAGE)
def test_a_damaged_record_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: dict[str, Any],
    right: str,
) -> None:
    found = records(name)
    found[0] |= damage
    more = () if name in JUDGE_SETS else ("--judge", "x", "--model", "y")
    assert main(words(tmp_path, name, found, *more)) == 2
    err = capsys.readouterr().err
    assert right in err and err.count("\n") == 1
    assert " 1: " in err or "row 1" in err or "line " in err  # which record
    assert not (tmp_path / "out/input.jsonl").exists()


def test_a_lost_picture_of_a_verdict_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = words(tmp_path, "wildvision-verdicts", records("wildvision-verdicts"))
    (tmp_path / "data" / f"{HASH}.png").unlink()
    assert main(said) == 2
    assert f"names {HASH}.jpg, which is not in" in capsys.readouterr().err


def answer_file(tmp_path: Path, name: str, ids: list[str]) -> tuple[str, ...]:
    answers = write_json_lines(tmp_path / "a.jsonl", [{"id": i, "response": f"S{i}."} for i in ids])
    more = ("--judge", "x", "--model", "me", "--answers", str(answers))
    return (*more, "--json", "--resamples", "5")


def score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, ids: list[str]
) -> dict[str, Any]:
    assert main(words(tmp_path, name, records(name), *answer_file(tmp_path, name, ids))) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out/score.json").read_text()) == found
    assert (found["benchmark"], found["model"]) == (name, "me")
    return found


def test_llava_in_the_wild_is_a_ratio_of_sums(
    tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    reviews = {"S0.": "8 6\n...", "S1.": "10 9\n...", "S2.": "hm"}
    critic = says(lambda prompt: next(v for k, v in reviews.items() if k in prompt))
    found = score(tmp_path, capsys, "llava-in-the-wild", ["0", "1", "2"])
    assert found["score"]["unparsed_left_out"]["value"] == pytest.approx(100 * 15 / 18, abs=1e-9)
    assert found["score"]["unparsed_wrong"]["value"] == pytest.approx(100 * 16 / 28, abs=1e-9)
    assert found["unparsed_rate"]["value"] == pytest.approx(1 / 3)
    conv = found["groups"]["conv"]["score"]
    assert conv["unparsed_left_out"]["value"] == pytest.approx(75, abs=1e-9)
    # The reference stands first.
    assert critic.asked[0].index("It is violet.") < critic.asked[0].index("S0.")


def test_wildvision_bench_is_a_leaderboards_score(
    tmp_path: Path, says: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"Sq1.": "[[B>>A]]", "Sq2.": "[[A>B]]", "Sq3.": "no idea"}
    says(lambda prompt: next(v for k, v in labels.items() if k in prompt))
    found = score(tmp_path, capsys, "wildvision-bench", ["q1", "q2", "q3"])
    # Three strong wins beside one loss; the verdict that is missing is a vote all the same.
    assert found["score"]["unparsed_left_out"]["value"] == pytest.approx(75, abs=1e-9)
    assert found["win_rate"] == pytest.approx(1 / 3) and found["votes"] == 3
    assert found["reward"] == pytest.approx(50 / 3) and found["counts"]["missing"] == 1
    battles = ["evaluate", "leaderboard", "--battles", str(tmp_path / "out/battles.jsonl")]
    assert main([*battles, "--anchor", REFERENCE, "--json", "--resamples", "5"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["model"] == "me" and rows[0]["score"] == pytest.approx(75, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "ids", "text", "value"),
    [
        ("llava-wilder", ["test-00000-of-00001-1"], "10 7\n...", 70),
        ("livebench", ["17"], '{"Explanation": "Not all.", "Rating": "4"}', 40),
        ("mmhal", [f"response_template-{n}" for n in (2, 104)], "Rating: 5", 5),
    ],
)
def test_other_policies(
    tmp_path: Path,
    says: Any,
    capsys: pytest.CaptureFixture[str],
    name: str,
    ids: list[str],
    text: str,
    value: float,
) -> None:
    critic = says(text)
    found = records(name)
    data = write_set(tmp_path / "data", name, found)
    if name == "mmhal":  # a JSON array's records are named by the line that they begin on
        numbers = [n for n, line in enumerate(data.read_text().splitlines(), 1) if line == " {"]
        ids = [f"response_template-{n}" for n in numbers]
    got = score(tmp_path, capsys, name, ids)
    assert got["score"]["unparsed_wrong"]["value"] == pytest.approx(value, abs=1e-9)
    if name == "mmhal":
        assert got["hallucination_rate"]["unparsed_wrong"]["value"] == 0
        assert set(got["groups"]) == {"attribute", "counting"}
        assert "Violet." in critic.asked[0] and "Person, Tree" in critic.asked[0]
    if name == "livebench":
        assert "10 for the shade" in critic.asked[0] and "The shade." in critic.asked[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said_by_judge", "asked"),
    [
        ("mmhal", "Rating: 3", "What colour is it?"),
        ("video-dc", "{'score': 3}", "Describe the video."),
    ],
)
def test_a_policy_that_is_loaded_answers(
    tmp_path: Path,
    says: Any,
    capsys: pytest.CaptureFixture[str],
    name: str,
    said_by_judge: str,
    asked: str,
) -> None:
    """A tiny model with random weights answers; the judge reads its very words."""
    save_checkpoint(tmp_path / "policy", tiny_checkpoint())
    critic = says(said_by_judge)
    more = ("--judge", critic.name, "--model", str(tmp_path / "policy"), "--max-new-tokens", "4")
    said = words(tmp_path, name, records(name), *more, "--json", "--resamples", "5")
    assert main(said) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "policy" and found["score"]["unparsed_wrong"]["value"] == 3
    answers = lines(tmp_path / "out/answers.jsonl")
    for answer, prompt in zip(answers, critic.asked, strict=True):
        assert answer["prompt"] == asked and answer["responses"][0] in prompt
    assert main(said) == 0  # goes on from what is there: nothing is asked again
    assert json.loads(capsys.readouterr().out) == found
    assert len(critic.asked) == len(records(name))


def test_options_that_do_not_suit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more, right in (
        ("mmhal", (), "name who judges with --judge"),
        ("mmhal", ("--judge", "x"), "name the one that answers: --model"),
        ("mmhal", ("--judge", "x", "--model", "y", "--order", "both"), "leave --order out"),
        ("vl-rewardbench", ("--model", "y"), "leave --model and --answers out"),
    ):
        assert main(words(tmp_path, name, records(name), *more)) == 2
        assert right in capsys.readouterr().err
    answers = answer_file(tmp_path, "wildvision-bench", ["q1"])
    assert main(words(tmp_path, "wildvision-bench", records("wildvision-bench"), *answers)) == 2
    assert "answers 2 questions not, first 'q2'" in capsys.readouterr().err
    twice = records("vl-rewardbench")[:1] * 2
    assert main(words(tmp_path, "vl-rewardbench", twice)) == 2
    assert "is the name of" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    said = ["evaluate", "benchmark", "mmhal", "--data", str(empty), "--output", str(empty)]
    assert main([*said, "--judge", "x", "--model", "y"]) == 2
    assert "holds no file that ends in" in capsys.readouterr().err
