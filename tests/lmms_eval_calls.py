"""A program: asks a judge through lmms-eval's own code, as its tasks do.

Run by a test, in a process of its own that finds the package: `python lmms_eval_calls.py CALL
PICTURE`, with the environment that its clients read. Prints a list of what was asked (a prompt, and
where there are any a system prompt and forms of the picture) and what came back (`content`).
"""

import asyncio
import base64
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import lmms_eval
from lmms_eval.llm_judge import Request, ServerConfig, get_server
from PIL import Image

PICTURE = Path(sys.argv[2])
QUESTION = "Which digit is it?"
BINARY = [(QUESTION, "a 7", f"It is a {number}.") for number in range(6)]
PAIRS = [(QUESTION, f"It is a {number}.", f"It is a {number + 1}.") for number in range(6)]
WORDS = {"model_name": "gpt-4o", "max_tokens": 32, "num_retries": 1}


def judge(name: str, **words: Any) -> Any:
    """A client of the package's own; it gives up at the first error."""
    found = get_server(name, ServerConfig(**WORDS | words))
    assert found.is_available()
    return found


def shown(number: int) -> tuple[Request, dict[str, Any]]:
    """A question about the picture as a path, as a picture, as base64, or all three."""
    forms = [str(PICTURE), Image.open(PICTURE), base64.b64encode(PICTURE.read_bytes())]
    kinds, prompt = ["jpeg", "jpeg", "png"], f"{QUESTION} {number}"
    some = slice(None) if number % 4 == 3 else slice(number % 4, number % 4 + 1)
    request = Request([{"role": "user", "content": prompt}], images=forms[some])
    return request, {"prompt": prompt, "pictures": kinds[some]}


def told(response: Any) -> dict[str, Any]:
    fields = {"content": response.content, "model": response.model_used}
    return fields | {"usage": response.usage, "success": response.success}


def judged(result: dict[str, Any], *pictures: str) -> dict[str, Any]:
    """The answer to a call that makes the prompt itself."""
    return result | {"content": result["raw_response"], "pictures": pictures}


def one_by_one(client: Any) -> list[dict[str, Any]]:
    found = []
    for number in range(4):
        request, about = shown(number)
        found.append(about | told(client.evaluate(request)))
    return [
        *found,
        judged(client.evaluate_binary(*BINARY[0])),
        judged(client.evaluate_binary(*BINARY[1], output_format="yes/no")),
        judged(client.evaluate_comparative(*PAIRS[0], context="The picture shows a digit.")),
        judged(client.evaluate_comparative(*PAIRS[1], images=[str(PICTURE)]), "jpeg"),
        judged(client.evaluate_with_rubric(*BINARY[0][::2], {"right": "it is"})),
    ]


def with_openai() -> list[dict[str, Any]]:
    return one_by_one(judge("openai"))


def with_requests() -> list[dict[str, Any]]:
    """As where the package openai is not installed."""
    client = judge("openai")
    client.use_client = False
    return one_by_one(client)


def side_by_side(client: Any) -> list[dict[str, Any]]:
    """Batches: questions about the picture, right or wrong, and pairs."""
    requests, abouts = zip(*map(shown, range(12)), strict=True)

    async def all_of_them() -> list[dict[str, Any]]:
        answers = await client.evaluate_batch(list(requests))
        binary = await client.evaluate_binary_batch_async(*map(list, zip(*BINARY, strict=True)))
        pairs = await client.evaluate_comparative_batch_async(
            *map(list, zip(*PAIRS, strict=True)), images_list=[[str(PICTURE)]] * len(PAIRS)
        )
        found = [about | told(answer) for about, answer in zip(abouts, answers, strict=True)]
        return [*found, *map(judged, binary), *(judged(pair, "jpeg") for pair in pairs)]

    return asyncio.run(all_of_them())


def with_async_openai() -> list[dict[str, Any]]:
    return side_by_side(judge("async_openai", max_concurrent=8))


def with_aiohttp() -> list[dict[str, Any]]:
    """As where the package openai is not installed."""
    client = judge("async_openai", max_concurrent=8)
    client.use_async_client = False
    return side_by_side(client)


def with_local() -> list[dict[str, Any]]:
    """The provider for servers of one's own; it sends no key and looks for a list of models."""
    client = judge("local", system_prompt="You count.", top_p=0.9)
    asked = Request([{"role": "user", "content": QUESTION}])
    return [{"prompt": QUESTION, "system": "You count."} | told(client.evaluate(asked))]


def in_other_words() -> list[dict[str, Any]]:
    """For a model that takes no temperature and calls its limit otherwise; and as JSON."""
    found = []
    for words in ({"model_name": "gpt-5-mini"}, {"response_format": "json"}):
        asked = Request([{"role": "user", "content": QUESTION}])
        answer = told(judge("openai", **words).evaluate(asked))
        found.append({"prompt": QUESTION, "json": "response_format" in words} | answer)
    return found


def task(name: str) -> Any:
    """A task's `utils`, without lmms_eval.tasks, which would want packages that run models."""
    path = Path(lmms_eval.__file__).parent / "tasks" / name / "utils.py"
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wild_vision() -> list[dict[str, Any]]:
    utils = task("wild_vision_bench")
    doc = {
        "instruction": QUESTION,
        "image": Image.open(PICTURE),
        utils.BASELINE_MODEL_NAME: "It is a 7.",
    }
    result = utils.wild_vision_process_results(doc, ["It is a 1."])["elo_scores"]
    prompt = utils.prompt_template.format(
        question_1=QUESTION, answer_1="It is a 7.", answer_2="It is a 1."
    )
    said = {"content": result["gpt_resps"], "pictures": ["png"]}
    return [{"prompt": prompt, "system": utils.system_prompt} | said]


def llava_in_the_wild() -> list[dict[str, Any]]:
    doc = {
        "question": QUESTION,
        "gpt_answer": "It is a 7.",
        "caption": ["A digit."],
        "category": "conv",
    }
    result = task("llava-in-the-wild").llava_process_results(doc, ["It is a 1."])
    review = result["gpt_eval_llava_conv"]
    return [{"prompt": review["content"], "content": review["review"]}]


def mia_bench() -> list[dict[str, Any]]:
    content, model = task("mia_bench").get_eval(QUESTION, 32)
    return [{"prompt": QUESTION, "content": content, "model": model}]


def mmvet() -> list[dict[str, Any]]:
    utils = task("mmvet")
    prompt = f"{utils.MM_VET_PROMPT}\n{QUESTION} | a 7 | It is a 1. |"
    content, model = utils.get_chat_response(prompt)
    return [{"prompt": prompt, "content": content, "model": model}]


def hallusion_bench() -> list[dict[str, Any]]:
    """It sends no temperature, and leaves a file in the working folder."""
    sample = {"question": QUESTION, "gt_answer_details": "a 7", "said": "It is a 1."}
    (done,) = task("hallusion_bench").evaluate_by_chatgpt([sample], "said", "right")
    prompt, content = done["gpt_answer"].split("\nOutput:")
    return [{"prompt": f"{prompt}\nOutput:", "content": content}]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
