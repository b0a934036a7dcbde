"""`critic-jax serve` under load: many clients at once against one at a time.

    python benchmarks/serving.py --model CHECKPOINT --clients 64 --seconds 120

Each client scores answers about photographs, four answers to a photograph, and asks for the next
as soon as it has the last one's score; no request is sent twice. A quarter of the time is one
client's, then all of them have the whole of it, after as long as one client's that is not counted
and in which they make the server compile what it lacks. The server is a process of its own on the
same machine, which it shares with the clients. Without --model it serves a tiny model with random
weights.
"""

import argparse
import base64
import os
import sys
import tempfile
import threading
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from critic_jax.checkpoints import save_checkpoint
from critic_jax.judging.templates import get_template

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from published_set import picture_file
from serve_process import ServeProcess
from serving_load import Load, load
from tiny_critic import tiny_checkpoint

PICTURES, EACH = 64, 4
PROMPT_TOKENS, NEW_TOKENS = 4096, 64


@cache
def data_url(number: int) -> str:
    content = picture_file(number)
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def body(number: int) -> dict[str, Any]:
    """A request to score an answer that no other request has."""
    template = get_template("critic-pointwise")
    prompt = template.render(question="What does it show?", response=f"It shows {number} things.")
    url = data_url(number // EACH % PICTURES)
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    messages = [{"role": "user", "content": content}]
    return {"model": "critic", "messages": messages, "max_tokens": NEW_TOKENS, "temperature": 0}


def counted(url: str) -> dict[str, float]:
    """What the server has counted so far."""
    lines = httpx.get(url.replace("/v1", "/metrics")).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("critic_jax_"): float(value) for name, value in pairs}


def report(name: str, found: Load) -> None:
    half, most = np.quantile(found.seconds, [0.5, 0.99])
    print(
        f"{name}: {len(found.answers)} answers, {len(found.errors)} errors, {found.rate:.2f} a "
        f"second, p50 {half:.3f} s, p99 {most:.3f} s",
        flush=True,
    )
    for error in sorted(set(found.errors))[:5]:
        print(f"  {error[:200]}")


def measure(server: ServeProcess, clients: int, seconds: float) -> None:
    url, numbers = server.url(), count()
    ready = float(server.find(r"ready after ([\d.]+) s", 3600))
    print(f"ready after {ready:.0f} s, {server.memory() / 1e6:.0f} MB", flush=True)
    for number in range(PICTURES):
        data_url(number)
    alone = load(url, body, 1, seconds / 4, numbers)
    report("1 client", alone)
    load(url, body, clients, seconds / 4, numbers)

    memory, before = [server.memory()], counted(url)
    middle = threading.Timer(seconds / 2, lambda: memory.append(server.memory()))
    middle.start()
    together = load(url, body, clients, seconds, numbers)
    middle.join()
    memory.append(server.memory())
    grown = {name: value - before.get(name, 0) for name, value in counted(url).items()}

    report(f"{clients} clients", together)
    print(f"{together.rate / alone.rate:.2f}x answers a second")
    names = ("prompt_tokens_total", "tokens_read_total", "tokens_taken_over_total")
    whole, read, taken = (grown[name] for name in names)
    said = grown["answer_tokens_total"] / together.took
    # The rest of the prompts was the same in several that were read together.
    print(
        f"prompts: {whole:.0f} tokens, {read:.0f} read ({read / whole:.1%}), {taken:.0f} taken "
        f"over from earlier ones ({taken / whole:.1%})"
    )
    print(f"answers: {said:.0f} tokens a second")
    told = ", ".join(f"{value / 1e6:.0f}" for value in memory)
    print(f"the server's memory at the start, in the middle, at the end: {told} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a checkpoint or a hub id; by default a tiny random model")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            model = f"{folder}/tiny"
            save_checkpoint(Path(model), tiny_checkpoint(max_new_tokens=NEW_TOKENS))
        limits = ("--prompt-tokens", PROMPT_TOKENS, "--new-tokens", NEW_TOKENS)
        server = ServeProcess("--model", model, *limits, quickly=False)
        try:
            measure(server, options.clients, options.seconds)
            print(f"it stopped with code {server.stop()}")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
