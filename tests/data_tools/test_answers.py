"""`critic-data answers`: questions of published sets, answered by endpoints and by checkpoints.

The layouts that the fixtures follow, and where they are told:

- LLaVA's: LLaVA-Instruct-150K (haotian-liu/LLaVA, docs/Data.md and its training code): id, image,
  conversations of turns from human and gpt.
- SVIT's own: BAAI/SVIT on the hub, folder data: image_id, conversations of objects with content,
  turns from user and gpt. Its folder format/llava-v1.5 is LLaVA's layout.
- M3IT's: MMInstruction/M3IT on the hub, whose loading script reads instruction, inputs, outputs and
  image_base64_str.
- VLFeedback's instructions: prompt and img_path, as on the card of MMInstruction/VLFeedback.
- LRV-Instruct's: github.com/FuxiaoLiu/LRV-Instruction at 0a5ab53, an instance in README.md and
  MiniGPT-4/minigpt4/datasets/datasets/cc_sbu_dataset.py, which opens IMAGE_ID.jpg; the evaluation
  set, Evaluation/evaluation_set.json, has no answers.
- PCA-EVAL's: github.com/pkunlp-icler/PCA-EVAL at 60eb1e1, pca-eval/data/v1.0/DOMAIN/meta_data.json
  with the pictures in DOMAIN/imgs, prompts as in end2end_prompts.json; PCA-Bench's columns
  question_prompt and image as README.md reads them.
- ComVint's lines are described nowhere: github.com/RUCAIBox/ComVint at b6caa91 only links a file.
"""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotators import counted
from chat_server import Chat, Fault, chatting
from PIL import Image
from tiny_critic import tiny_checkpoint

from critic_data.cli import main
from critic_data.making.answers import plan, read_models
from critic_data.making.cases import read_cases
from critic_data.sources.questions import Question, read_questions
from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main as generate
from critic_jax.errors import InputError
from critic_jax.files import write_json, write_json_lines


@pytest.fixture
def chat() -> Iterator[Chat]:
    with chatting(Chat(say=lambda prompt: f"To {prompt!r}: a bus.", usage=counted)) as running:
        yield running


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 90, 10)).save(buffer, format="PNG")
    return buffer.getvalue()


def llava(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:012}",
        "image": f"{number % 3}.png",
        "conversations": [
            {"from": "human", "value": f"What is in {number}?\n<image>"},
            {"from": "gpt", "value": f"Reference {number}."},
            {"from": "human", "value": "And behind it?"},
            {"from": "gpt", "value": "A tree."},
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(picture())
    return tmp_path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def one_question(folder: Path, row: dict[str, Any]) -> Question:
    (found,), wrong = read_questions([write_json(folder / "set.json", [row])], None)
    assert not wrong
    return found


def test_llava_json_gives_the_first_question(folder: Path) -> None:
    found = one_question(folder, llava(4))
    assert (found.id, found.text, found.reference) == (
        "000000000004",
        "What is in 4?",
        "Reference 4.",
    )
    assert found.images == (folder / "1.png",) and found.source == "set"


def test_svit_gives_a_question_for_each_conversation(folder: Path) -> None:
    talks = [
        {
            "content": [
                {"from": "user", "value": f"Which color, {n}?"},
                {"from": "gpt", "value": f"Red {n}."},
            ]
        }
        for n in range(2)
    ]
    path = write_json(folder / "svit.json", [{"image_id": 2370799, "conversations": talks}])
    found, _ = read_questions([path], folder)
    assert [(q.id, q.text, q.reference) for q in found] == [
        ("2370799", "Which color, 0?", "Red 0."),
        ("2370799#2", "Which color, 1?", "Red 1."),
    ]
    assert found[0].images == (folder / "2370799.jpg",)


@pytest.mark.parametrize("several", [False, True])
def test_m3it_is_read_with_its_pictures(folder: Path, several: bool) -> None:
    coded = base64.b64encode(picture()).decode()
    row = {
        "instruction": "Answer the question.",
        "inputs": "What is it?",
        "outputs": "A wall.",
        "image_base64_str": [coded] if several else coded,
    }
    found = one_question(folder, row)
    assert found.text == "Answer the question.\nWhat is it?" and found.reference == "A wall."
    assert found.images == (picture(),)


def test_vlfeedback_and_plain_lines_are_read(folder: Path) -> None:
    row = {"id": "svit-1", "prompt": "What is this?", "img_path": "0.png", "completions": []}
    found = one_question(folder, row)
    assert (found.id, found.text, found.images) == (
        "svit-1",
        "What is this?",
        (folder / "0.png",),
    )
    plain = {"id": 7, "image": "0.png", "question": "Why?", "answer": "So.", "domain": "charts"}
    found = one_question(folder, plain)
    assert (found.id, found.reference, found.domain) == ("7", "So.", "charts")


def lrv(**changes: Any) -> dict[str, Any]:
    row = {"image_id": "7", "question": "Is it blue?", "answer": "No.", "task": "negative"}
    return row | changes


def test_lrv_names_its_pictures_by_their_ids(folder: Path) -> None:
    (folder / "7.jpg").write_bytes(picture())
    rows = [lrv(), lrv(question="Is it red?", answer="Yes."), {"image_id": "7", "question": "Why?"}]
    found, wrong = read_questions([write_json(folder / "filter_cap.json", rows)], None)
    assert not wrong
    assert [(q.id, q.text, q.reference) for q in found] == [
        ("7", "Is it blue?", "No."),
        ("7#2", "Is it red?", "Yes."),
        ("7#3", "Why?", ""),
    ]
    assert {q.images for q in found} == {(folder / "7.jpg",)}


def pca_eval(**changes: Any) -> dict[str, Any]:
    row = {
        "version": "1.0",
        "domain": "Autonomous Driving",
        "index": 3,
        "image": "traffic_000.jpg",
        "question": "You drive at 90 km/h. What now?",
        "actions": ["Slow down", "Speed up", "Stop the car"],
        "answer_index": 0,
        "reason": "The sign says 70.",
        "key_concept": ["Maximum Speed Limit 70 km/h"],
        "api_cached_result": {"caption": "a road", "ocr": "None"},
    }
    return row | changes


def test_pca_eval_shows_its_actions_and_finds_its_folder_of_pictures(folder: Path) -> None:
    (folder / "imgs").mkdir()
    (folder / "imgs/traffic_000.jpg").write_bytes(picture())
    found = one_question(folder, pca_eval())
    assert (found.id, found.domain) == ("Autonomous Driving-3", "Autonomous Driving")
    assert found.text == (
        "You drive at 90 km/h. What now?\nA. Slow down\nB. Speed up\nC. Stop the car"
    )
    assert found.reference == "A. Slow down\nThe sign says 70."
    assert found.images == (folder / "imgs/traffic_000.jpg",)
    (again,), _ = read_questions([folder / "set.json"], folder / "imgs")
    assert again.images == found.images


def test_pca_bench_brings_prompt_and_picture(folder: Path) -> None:
    row = pca_eval(question_prompt="The whole prompt.", image={"bytes": picture(), "path": None})
    del row["index"], row["answer_index"]  # the closed track tells no answer
    path = folder / "test_closed-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    (found,), wrong = read_questions([path], None)
    assert not wrong and (found.text, found.reference) == ("The whole prompt.", "")
    assert found.images == (picture(),)


DAMAGED = [
    ({"id": "x", "image": "0.png"}, "holds no known layout: no conversations, instruction,"),
    ({"id": "x", "image": "0.png"}, "there are id, image"),
    ({"id": "x", "image": "0.png", "question": " "}, "the question is ' '; it should be a text"),
    (lrv(question=None), "the question is missing; it should be a text that is not empty"),
    (lrv(image_id=[7], question=7), "the question is 7; it should be a text"),
    (pca_eval(question=None), "the question is missing; it should be a text that is not empty"),
    (pca_eval(actions="Stop"), "field 'actions' is 'Stop'; it should be a list of texts"),
    (pca_eval(answer_index=3), "field 'answer_index' is 3; it should be a place in 'actions', 0"),
    (pca_eval(answer_index="A"), "field 'answer_index' is 'A'; it should be a place in 'actions'"),
    (pca_eval(image=7), "field 'image'"),
]


@pytest.mark.parametrize(("row", "said"), DAMAGED)
def test_a_wrong_row_is_told_and_costs_no_other(
    folder: Path, row: dict[str, Any], said: str
) -> None:
    path = write_json_lines(folder / "q.jsonl", [llava(0), row])
    found, (wrong,) = read_questions([path], None)
    assert len(found) == 1 and wrong.line == 2
    assert wrong.reason.startswith(f"{path} line 2: ") and said in wrong.reason


@pytest.mark.parametrize("row", [lrv(), pca_eval()], ids=["lrv", "pca-eval"])
def test_a_lost_picture_is_told_where_it_was_looked_for(
    row: dict[str, Any], folder: Path, chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_json(folder / "set.json", [row, llava(0)])
    models, output = write_models(folder, chat.url), folder / "out"
    words = ["answers", str(path), "--models", str(models), "--output", str(output)]
    assert main([*words, "--per-question", "1", "--json"]) == 0
    capsys.readouterr()
    (told,) = lines(output / "rejected.jsonl")
    assert str(folder / row.get("image", "7.jpg")) in told["reason"]
    assert len(lines(output / "answers.jsonl")) == 1


def test_the_plan_is_seeded_even_and_the_same_for_a_question_among_others() -> None:
    questions = [Question(f"q{n}", "set", n, "here", (), "Q?") for n in range(1300)]
    models = [f"m{n}" for n in range(13)]
    found = plan(questions, models, 4, seed=5)
    by_question = Counter(one.question.id for one in found)
    assert set(by_question.values()) == {4} and len({one.id for one in found}) == 5200
    counts = Counter(one.model for one in found)
    assert set(counts) == set(models) and max(abs(n - 400) for n in counts.values()) < 80
    some = plan(questions[700:], models, 4, seed=5)
    assert some == found[2800:] and plan(questions, models, 4, seed=6) != found
    with pytest.raises(InputError, match="from 1 to 13"):
        plan(questions, models, 14, seed=0)


def write_models(folder: Path, url: str, checkpoint: Path | None = None) -> Path:
    text = "".join(
        f'["{name}"]\nendpoint = "{url}"\nprice_prompt = 1\nprice_answer = 2\n\n'
        for name in ("gpt-a", "org/gpt-b", "gpt-c")
    )
    if checkpoint is not None:
        text += f'[ours]\ncheckpoint = "{checkpoint}"\n'
    path = folder / "models.toml"
    path.write_text(text)
    return path


def run(source: Path, models: Path, output: Path, *more: str) -> int:
    words = ["answers", str(source), "--models", str(models), "--output", str(output)]
    return main([*words, *more])


def test_endpoints_answer_as_planned_and_go_on(
    chat: Chat, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_json(folder / "llava_instruct.json", [llava(n) for n in range(10)])
    models, output = write_models(folder, chat.url), folder / "out"
    chat.when = lambda prompt: Fault(400, "no") if "in 3?" in prompt else None
    assert run(source, models, output, "--per-question", "2", "--dry-run", "--json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert not chat.bodies and not output.exists() and planned["answers"] == 20
    assert planned["cost"] > 0
    assert run(source, models, output, "--per-question", "2", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    answers, rejected = lines(output / "answers.jsonl"), lines(output / "rejected.jsonl")
    assert len(answers) == 18 and {r["id"].split("/")[0] for r in rejected} == {"000000000003"}
    asked = Counter(body["model"] for body in chat.bodies)
    assert asked == {name: told["answers"] for name, told in planned["models"].items()}
    chosen = {line["id"]: set(line["models"]) for line in lines(output / "plan.jsonl")}
    for answer in answers:
        assert answer["response_model"] in chosen[answer["pair"]]
        assert answer["id"] == f"{answer['pair']}/{answer['response_model']}"
        assert answer["response"] == f"To {answer['question']!r}: a bus."
        assert (output / answer["image"]).resolve().parent == folder.resolve()
    assert summary["spent"] > 0 and sum(summary["models"].values()) == 18
    cases, wrong = read_cases(output / "answers.jsonl")
    assert len(cases) == 18 and not wrong and cases[0].reference.startswith("Reference")
    before = len(chat.bodies)
    more = write_json(folder / "llava_instruct.json", [llava(n) for n in range(12)])
    assert run(more, models, output, "--per-question", "2") == 0
    assert len(chat.bodies) == before + 4 and len(lines(output / "answers.jsonl")) == 22


def test_one_budget_holds_for_all_endpoints(
    chat: Chat, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_json(folder / "llava_instruct.json", [llava(n) for n in range(30)])
    models, output = write_models(folder, chat.url), folder / "out"
    words = ("--per-question", "3", "--max-new-tokens", "40", "--picture-tokens", "0")
    assert run(source, models, output, *words, "--budget", "0.0007") == 1
    assert "the budget of" in capsys.readouterr().err
    spent = 0
    for ledger in output.glob("models/*/ledger.jsonl"):
        took = [line["took"] for line in lines(ledger) if "took" in line]
        spent += sum(prompt + 2 * answer for prompt, answer in took)
    assert len(list(output.glob("models/*"))) > 1 and 450 < spent <= 700


@pytest.mark.slow
def test_our_checkpoints_answer_beside_endpoints(chat: Chat, folder: Path) -> None:
    save_checkpoint(folder / "tiny", tiny_checkpoint())
    source = write_json(folder / "llava_instruct.json", [llava(n) for n in range(4)])
    models, output = write_models(folder, chat.url, folder / "tiny"), folder / "out"
    words = ("--per-question", "4", "--max-new-tokens", "6")
    assert run(source, models, output, *words) == 0
    answers = lines(output / "answers.jsonl")
    ours = {a["pair"]: a["response"] for a in answers if a["response_model"] == "ours"}
    found = output / "models/ours/answers.jsonl"
    before = found.read_bytes()
    # What the other command left is its own: it has nothing left to answer.
    words = ("--output", str(found), "--max-new-tokens", "6")
    prompts = str(output / "models/ours/prompts.jsonl")
    assert generate(["generate", "--model", str(folder / "tiny"), "--input", prompts, *words]) == 0
    assert found.read_bytes() == before
    want = {g["id"].removesuffix("/ours"): g["responses"][0].strip() for g in lines(found)}
    assert ours == {name: text for name, text in want.items() if text} and ours
    assert len([a for a in answers if a["response_model"] != "ours"]) == 12


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nendpoint = 'u'\ncheckpoint = 'c'", "either endpoint or checkpoint"),
        ("[a]\nurl = 'u'", "[a] has 'url'"),
        ("a = 1", "a stands alone"),
        ("[a", "not valid TOML"),
        ("", "names no model"),
        ("[a]\nendpoint = 'u'\nprice_prompt = 'x'", "price_prompt should be a number"),
    ],
)
def test_a_wrong_file_of_models_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_models(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)
