"""Published preference sets in small.

The layouts and where they are told:

- VLFeedback: the features on the card of the data set MMInstruction/VLFeedback on the hub (id,
  prompt, models, completions of annotations, model and response, img_path; ratings are strings),
  its file vlfeedback_80k.jsonl with the completions as a list of objects. Its ids repeat.
- LLaVA-RLHF: zhiqings/LLaVA-Human-Preference-10K, llava_7b_v1_preference.json, as the training of
  its reward model reads it (github.com/llava-rlhf/LLaVA-RLHF, RLHF/data_utils/data_utils_rm.py).
- RLHF-V: the features on the card of openbmb/RLHF-V-Dataset (ds_name, image, text, origin_dataset,
  origin_split, idx, image_path); `text` is JSON with question, chosen and rejected.
"""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from critic_jax.files import write_json, write_json_lines

ASPECTS = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")


def vlfeedback(name: str, ratings: list[list[str]], columns: bool = False) -> dict[str, Any]:
    """A row with an answer for each list of three ratings."""
    completions: Any = [
        {
            "annotations": {
                aspect: {"Rating": rating, "Rationale": "So it is."}
                for aspect, rating in zip(ASPECTS, three, strict=True)
            },
            "model": f"model{n}",
            "response": f"Answer {n} of {name}, rated {three}.",
        }
        for n, three in enumerate(ratings)
    ]
    if columns:
        completions = {key: [one[key] for one in completions] for key in completions[0]}
    return {
        "id": name,
        "prompt": f"What does picture {name} show?",
        "models": [f"model{n}" for n in range(len(ratings))],
        "completions": completions,
        "img_path": "0.png",
    }


def llava_rlhf(number: int, preference: Any = 1) -> dict[str, Any]:
    return {
        "id": f"{number:012}",
        "image": "1.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "A bus."},
            {"from": "human", "value": f"And what is number {number}?"},
            {"from": "gpt", "value": "As once written."},
        ],
        "output_1": {"from": "llava", "value": f"Output one, {number}."},
        "output_2": {"from": "llava", "value": f"Output two, {number}."},
        "preference": preference,
        "hallucination": False,
    }


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 12), (9, 90, 180)).save(buffer, format="JPEG")
    return buffer.getvalue()


def rlhf_v(number: int) -> dict[str, Any]:
    text = {
        "question": f"Describe number {number}.",
        "chosen": f"A true answer, {number}.",
        "rejected": f"An answer with a ghost, {number}.",
    }
    return {
        "ds_name": "RLHF-V",
        "image": {"bytes": picture(), "path": f"{number}.jpg"},
        "text": json.dumps(text),
        "origin_dataset": "LCS-558K",
        "origin_split": '{"model": "OmniLMM-12B", "type": "detailed_description"}',
        "idx": number,
        "image_path": f"{number}.jpg",
    }


def rows(folder: Path, rated: int = 24, human: int = 9, edited: int = 6) -> list[Path]:
    """The three sets in small."""
    ratings = [["5", "5", "5"], ["3", "4", "3"], ["3", "4", "3"], ["N/A", "4", "3"]]
    first = write_json_lines(
        folder / "vlfeedback_80k.jsonl",
        [vlfeedback(f"svit-{n}", ratings, columns=n % 2 == 1) for n in range(rated)],
    )
    second = write_json(
        folder / "llava_7b_v1_preference.json", [llava_rlhf(n, n % 2 + 1) for n in range(human)]
    )
    third = folder / "RLHF-V-Dataset.parquet"
    pq.write_table(pa.Table.from_pylist([rlhf_v(n) for n in range(edited)]), third)
    return [first, second, third]
