"""`critic-data pointwise` at full speed against an endpoint whose limit is known.

    python benchmarks/annotating.py --count 5000 --concurrency 64 --delay 0.5

The endpoint is the tests' own, in a process of its own on the same machine: it answers so many
requests at a time as the verb sends and takes a fixed time for each, so that its limit is
concurrency / delay. The annotator is scripted and every answer can be read; each request carries a
photograph. What is timed is the whole verb: reading, asking, writing the records.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

from critic_data.cli import main as critic_data
from critic_jax.files import write_json_lines

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from annotators import counted, judgment
from chat_server import Chat, chatting
from data_tools_helpers import answer_line
from published_set import picture_file

PICTURES = 64


def serve(pipe: Connection, slots: int, delay: float) -> None:
    """Tell the endpoint's address, then, once asked, how many it answered and at once at most."""
    free = threading.Semaphore(slots)

    def say(prompt: str) -> str:
        with free:
            time.sleep(delay)
        return judgment(prompt)

    with chatting(Chat(say=say, usage=counted)) as chat:
        pipe.send(chat.url)
        pipe.recv()
        pipe.send((len(chat.times), chat.most))


def write_source(folder: Path, count: int) -> Path:
    """Answers to judge, four to a question; the pictures are photographs."""
    for n in range(PICTURES):
        (folder / f"{n}.png").write_bytes(picture_file(n))
    lines = (answer_line(n, PICTURES) for n in range(count))
    return write_json_lines(folder / "answers.jsonl", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--delay", type=float, default=0.5, help="seconds of an answer")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", flush=True)
    os.environ["NO_PROXY"] = "127.0.0.1"
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, options.concurrency, options.delay), daemon=True
    )
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        source, output = write_source(Path(folder), options.count), Path(folder) / "made"
        words = ["pointwise", str(source), "--output", str(output), "--endpoint", ours.recv()]
        words += ["--model", "scripted", "--concurrency", str(options.concurrency), "--json"]
        words += ["--price-prompt", "2.5", "--price-answer", "10", "--budget", "1000"]
        said = io.StringIO()
        started, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(said):
            code = critic_data(words)
        took, busy = time.perf_counter() - started, time.process_time() - busy
    ours.send(None)
    answered, most = ours.recv()
    server.join()
    records = json.loads(said.getvalue())["records"]
    assert (code, records, answered) == (0, options.count, options.count), (code, said.getvalue())
    limit = options.concurrency / options.delay
    rate = options.count / took
    print(f"{records} records, each asked for once, at most {most} at a time")
    print(f"{rate:.1f} answers a second in {took:.1f} s, {busy:.1f} s of it busy")
    print(f"the endpoint's limit is {limit:.1f} a second: {rate / limit:.1%} of it")


if __name__ == "__main__":
    main()
