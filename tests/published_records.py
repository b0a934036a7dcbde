"""One or two records of each published set, in its layout; contents are made up.

Names of fields, and what their values mean, were read from

- WildVision-Arena: the card of huggingface.co/datasets/WildVision/wildvision-internal-data, config
  `battle`; values of `winner` from show_results.py of WildVision-Bench;
- WildVision-Bench's verdict files: github.com/WildVision-AI/WildVision-Bench at 79dacc0,
  data/vision_bench_0617/model_judgements;
- MLLM-as-a-Judge: github.com/Dongping-Chen/MLLM-Judge, Dataset/Benchmark_Lite/pair_lite.jsonl and
  score_lite.jsonl at 3d58bfc, Dataset/Benchmark/batch.jsonl at df08877;
- VL-RewardBench: the card of huggingface.co/datasets/MMInstruction/VL-RewardBench, and
  lmms_eval/tasks/vl_rewardbench/utils.py of lmms-eval 0.7.3;
- Multimodal RewardBench: lmms_eval/tasks/multimodal_rewardbench/utils.py of lmms-eval 0.7.3;
- LLaVA-Bench (in-the-wild), LLaVA-Wilder, WildVision-Bench, LiveBench: lmms_eval/tasks/
  llava-in-the-wild, llava_wilder, wild_vision_bench and live_bench of lmms-eval 0.7.3;
- Video detailed captioning (lmms-lab/VideoDetailDescription): lmms_eval/tasks/
  video_detail_description of lmms-eval 0.7.3, its task video_dc499;
- MMHal-Bench: MMHal-Bench.py of huggingface.co/datasets/Shengcao1006/MMHal-Bench at 3824aaf.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from critic_jax.files import write_json, write_json_lines

HASH = "351ddea5db6b78fe2db26bc148a9efea"
VIDEO = "v_p1QGn0IzfW0"
REFERENCE = "claude-3-sonnet-20240229"


def picture(shade: int = 120) -> bytes:
    """A small PNG."""
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (shade, 40, 200)).save(file, "PNG")
    return file.getvalue()


def cell(shade: int = 120) -> dict[str, Any]:
    """A picture as the hub's parquet files hold it."""
    return {"bytes": picture(shade), "path": None}


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def game(score: str | None) -> dict[str, Any]:
    text = (
        "<|User Prompt|>\nWhat is this?\n\n"
        "<|The Start of Assistant A's Answer|>\nA square.\n\nBlue.\n"
        "<|The End of Assistant A's Answer|>\n\n"
        "<|The Start of Assistant B's Answer|>\nA violet picture.\n"
        "<|The End of Assistant B's Answer|>"
    )
    parts = [{"type": "text", "text": text}, {"type": "image", "image": HASH}]
    return {"user_prompt": parts, "judgment": f"... [[{score}]]", "score": score}


def records(name: str) -> list[dict[str, Any]]:
    """The records of a set, fresh ones at each call."""
    asked = "Please analyse this figure in detail: What is shown?"
    common = {"instruction": asked, "image_path": "0.png", "original_dataset": "coco"}
    of: dict[str, list[dict[str, Any]]] = {
        "wildvision-arena": [
            {
                "question_id": "b1",
                "model_a": "gpt-4o",
                "model_b": "llava",
                "conversation_a": [turn("user", "What?"), turn("assistant", "A house.")],
                "conversation_b": [turn("user", "What?"), turn("assistant", "A horse.")],
                "language": "English",
                "image": cell(),
                "turn": 1,
                "anony": True,
                "winner": "model_a",
                "tstamp": 1708000000,
                "judge": "arena_user_1",
                "domain": "Urban",
            }
        ],
        "wildvision-verdicts": [
            {"question_id": "q1", "model": "gpt-4o", "judge": "gpt-4o", "games": [game("B>>A")]},
            {"question_id": "q2", "model": "gpt-4o", "judge": "gpt-4o", "games": [game(None)]},
        ],
        "mllm-judge": [
            {
                "id": 0,
                "pair_id": 5,
                **common,
                "answer1": {"name": "gpt4", "answer": "Men at play."},
                "answer2": {"name": "gemini", "answer": "Men."},
                "human_answer": "C",
            },
            {"score_id": 6, "name": "gpt4", "answer": "A meal.", "id": 101, **common, "human": "4"},
            {
                "id": 200,
                **common,
                "answers": [{"name": n, "answer": f"Says {n}."} for n in ("llava", "cog", "gpt4")],
                "human_answer": "CAB",
            },
        ],
        "vl-rewardbench": [
            {
                "id": "mathverse_1",
                "query": "How long is AB?",
                "response": ["5", "It is 6."],
                "image": cell(),
                "human_ranking": [1, 0],
                "models": ["x", "y"],
                "query_source": "MathVerse",
            },
            {
                "id": "RLAIF-V-7",
                "query": "Describe it.",
                "response": ["Blue.", "Re"],
                "image": cell(9),
                "human_ranking": [0, 1],
                "models": ["x", "y"],
                "query_source": "RLAIF-V",
            },
        ],
        "mm-rewardbench": [
            {
                "ID": "pairs_0",
                "Text": "Is it fair?",
                "Output1": "No.",
                "Output2": "Yes.",
                "Better": "Output2",
                "Category": "safety",
                "Image": cell(),
            },
            {
                "ID": "vqa_1",
                "Text": "Which?",
                "Output1": "A cat.",
                "Output2": "A dog.",
                "Better": "Output1",
                "Category": "vqa",
                "Image": cell(),
            },
        ],
        "llava-in-the-wild": [
            {
                "question_id": n,
                "question": "What is the name of it?",
                "caption": ["A picture of something violet."],
                "gpt_answer": "It is violet.",
                "category": kind,
                "image": cell(n),
            }
            for n, kind in enumerate(("conv", "detail", "conv"))
        ],
        "llava-wilder": [{"Question": "Why?", "Answer": "Because.", "image": cell()}],
        "wildvision-bench": [
            {"question_id": q, "instruction": "What?", REFERENCE: "A square.", "image": cell()}
            for q in ("q1", "q2", "q3")
        ],
        "livebench": [
            {
                "id": 17,
                "images": [cell(1), cell(2)],
                "question": "What changed?",
                "answer": "The shade.",
                "criteria": "10 for the shade, 0 for anything else.",
                "subtask": "Concrete Recognition",
            }
        ],
        "video-dc": [
            {"video_name": VIDEO, "question": "Describe the video.", "answer": "It gets brighter."}
        ],
        "mmhal": [
            {
                "question_type": kind,
                "question_topic": "outdoor",
                "image_id": "a6d1d0b4d1c3d1a4",
                "image_src": "https://farm8.staticflickr.com/7266/0.png",
                "image_content": ["Person", "Tree"],
                "question": "What colour is it?",
                "gt_answer": "Violet.",
                "model_answer": "",
            }
            for kind in ("attribute", "counting")
        ],
    }
    return of[name]


def write_video(path: Path, count: int = 20) -> Path:
    """A video whose frames get brighter, from black on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(count):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (10 * n,) * 3))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_set(folder: Path, name: str, lines: list[dict[str, Any]]) -> Path:
    """A set as it is published: parquet where pictures lie in it, else JSON; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("0.png", f"{HASH}.png"):
        (folder / file).write_bytes(picture())
    if name == "video-dc":
        write_video(folder / f"{VIDEO}.mp4")
    if name == "wildvision-verdicts":
        inner = folder / f"judge_gpt-4o_reference_{REFERENCE}"
        return write_json_lines(inner / "gpt-4o.jsonl", lines)
    if name == "mllm-judge":
        return write_json_lines(folder / "bench.jsonl", lines)
    if name == "mmhal":
        return write_json(folder / "response_template.json", lines)
    path = folder / "test-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(lines), path)
    return path
