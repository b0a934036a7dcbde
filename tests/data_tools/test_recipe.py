"""The whole recipe at a thousandth of the paper's sizes, on photographs, from questions to a step.

LLaVA-Critic (arXiv 2410.02712, section 3): 18,915 pairs of picture and question with answers of 13
models make 72,782 judgments of single answers; 20,000 + 5,000 pairs of VLFeedback, 9,400 of
LLaVA-RLHF and 5,700 of RLHF-V make those of two.
"""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from annotators import Annotator, counted
from chat_server import Chat, chatting
from preference_sets import rows
from published_set import picture_file
from tiny_critic import tiny_checkpoint

from critic_data.cli import main
from critic_jax.checkpoints import save_checkpoint
from critic_jax.cli import main as critic_jax
from critic_jax.files import write_json

QUESTIONS, MODELS = 19, 13
"""18.9 questions; each has answers of 4 of the 13 models, which is 72.8 judgments of 76."""

CONFIG = """\
from critic_jax.training.config import TrainConfig

config = TrainConfig(
    init={start!r},
    data={data!r},
    output={output!r},
    global_batch=5,
    rows=2,
    row_tokens=4096,
    row_tiles=16,
    learning_rate=1e-2,
    dtype="float32",
    save_every=99,
)
"""

RECIPE = """\
output = "made"

[answers]
sources = ["chat.json"]
models = "models.toml"

[annotator]
endpoint = "{url}"
model = "annotator"

[pointwise]

[pairwise]
sources = {sets}
pairs = 20
ties = 5

[import]
tokenizer = "start"
strict = true

[quality]
sample = 20
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def conversation(number: int) -> dict[str, Any]:
    """A record of LLaVA-Instruct; every third asks for a description."""
    asked = "Describe the photograph." if number % 3 == 0 else f"What is at place {number}?"
    turns = [("human", f"<image>\n{asked}"), ("gpt", f"What is known of {number}.")]
    said = [{"from": who, "value": text} for who, text in turns]
    return {"id": f"{number:012}", "image": f"{number}.png", "conversations": said}


@pytest.mark.slow
def test_the_recipe_from_questions_to_twenty_steps(
    tmp_path: Path,
) -> None:
    for number in range(QUESTIONS):
        (tmp_path / f"{number}.png").write_bytes(picture_file(number))
    write_json(tmp_path / "chat.json", [conversation(n) for n in range(QUESTIONS)])
    with ExitStack() as stack:
        tables = []
        for n in range(MODELS):
            say = f"Model {n} sees it so."
            chat = stack.enter_context(chatting(Chat(say=lambda _, said=say: said, usage=counted)))
            tables.append(f'[m{n}]\nendpoint = "{chat.url}"\n')
        (tmp_path / "models.toml").write_text("\n".join(tables))
        annotator = stack.enter_context(chatting(Chat(say=Annotator(faulty=False).say)))
        start, made = tmp_path / "start", tmp_path / "made"
        save_checkpoint(start, tiny_checkpoint())
        sets = [path.name for path in rows(tmp_path, rated=40, human=9, edited=6)]
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE.format(url=annotator.url, sets=sets))
        assert main(["recipe", str(recipe)]) == 0
        asked = len(annotator.bodies)
        assert main(["recipe", str(recipe)]) == 0
        assert len(annotator.bodies) == asked

    answers, single, pairs = made / "answers/answers.jsonl", made / "pointwise", made / "pairwise"
    models = Counter(line["response_model"] for line in lines(answers))
    assert len(models) == MODELS and sum(models.values()) == 4 * QUESTIONS
    files = [single / "records.jsonl", pairs / "records.jsonl"]
    judged, compared = map(lines, files)
    assert len(judged) == 4 * QUESTIONS
    mix = Counter(record["source"] for record in compared)
    assert sorted(mix.values()) == [6, 9, 25] and len(compared) == 40
    assert not (pairs / "rejected.jsonl").read_text()
    assert len({record["conversations"][0]["value"].split("\n")[1][:40] for record in compared}) > 9

    assert all(main(["validate", str(file)]) == 0 for file in files)
    assert (made / "sample.html").exists() and (made / "card.md").exists()
    data = made / "set"
    config = tmp_path / "config.py"
    names = {"start": start, "data": data, "output": tmp_path / "run"}
    config.write_text(CONFIG.format(**{name: str(path) for name, path in names.items()}))
    assert critic_jax(["train", str(config)]) == 0
    steps = lines(tmp_path / "run" / "metrics.jsonl")
    assert len(steps) >= 20 and sum(step["records"] for step in steps) == 116
    losses = [step["loss"] for step in steps]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
