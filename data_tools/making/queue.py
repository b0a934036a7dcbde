"""Many requests to one endpoint: each done once, taken up again by id, wrong answers asked anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from critic_jax.data import scan_json_lines
from critic_jax.errors import InputError, WorkError
from critic_jax.files import write_json_lines
from critic_jax.judging.endpoint import AbandonedError, RefusedError, Reply
from critic_jax.judging.partial import Partial
from critic_jax.judging.remote import RemoteCritic
from critic_jax.progress import progress

from .purse import BudgetError, Load, Purse, money
from .sent import Sent

IN_A_ROW = 8
"""So many requests given up one after the other end a run: the endpoint is not there."""


@dataclass(frozen=True)
class Task:
    """One request.

    id: known by it in the output. images: paths, or contents of picture files. check: what is wrong
    with an answer, "" if nothing is. again: sampled, as a second opinion on what was asked before.
    """

    id: str
    images: tuple[Path | bytes, ...]
    prompt: str
    check: Callable[[Reply], str]
    again: bool = False

    @property
    def digest(self) -> str:
        """Of what decides the answer."""
        images = [str(i) if isinstance(i, Path) else sha256(i).hexdigest() for i in self.images]
        said = json.dumps([self.prompt, images, self.again])
        return sha256(said.encode()).hexdigest()[:16]


class Queue:
    """Tasks for one endpoint, whose answers go into a file of lines.

    A line holds `id`, `model`, `fingerprint`, `asked` (a digest of the question), `text`, `why`
    (what is wrong with the text, "" if nothing) and `asks`. What is wrong is asked again, sampled,
    `reasks` times at most; the last text is kept. `picture_tokens`: see `Load`.
    """

    def __init__(
        self,
        critic: RemoteCritic,
        purse: Purse,
        answer_limit: int,
        picture_tokens: int,
        reasks: int = 0,
    ) -> None:
        self.critic, self.purse, self.reasks = critic, purse, reasks
        self.answer_limit, self.picture_tokens = answer_limit, picture_tokens
        self._sent = Sent(critic)

    def load(self, task: Task) -> Load:
        """What one try of a task sends."""
        return Load(task.prompt, len(task.images), self.answer_limit, self.picture_tokens)

    def waiting(self, tasks: Sequence[Task], output: Path) -> list[Task]:
        """The tasks without an answer yet.

        Raises InputError where one has the answer to another question, or of another model.
        """
        kept = output.with_name(output.name + ".partial")
        return _undone(tasks, kept if kept.exists() else output)

    def run(self, tasks: Sequence[Task], output: Path) -> list[dict[str, Any]]:
        """Ask what is not answered yet; the lines, in the order of the tasks.

        What was answered is on disk before an error is raised: WorkError where the budget is used
        up, the endpoint is gone or a request failed for good, InputError where every one would.
        """
        partial = Partial(output, self.critic.name, {}, "annotation")
        undone = _undone(tasks, partial.path)
        if undone:
            partial.check_fingerprint(self.critic.fingerprint)
            with progress() as bar, partial, self.purse:
                shown = bar.add_task(
                    self._told(), total=len(tasks), completed=len(tasks) - len(undone)
                )
                for line in self._asked(undone):
                    partial.write(line)
                    bar.update(shown, advance=1, description=self._told())
        results = partial.results([(task.id, "ab") for task in tasks], keep_others=False)
        write_json_lines(output, results)
        partial.finish()
        return results

    def _told(self) -> str:
        spent = self.purse.spent
        return "annotating" if spent is None else f"annotating, {money(spent)} spent"

    def _asked(self, tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
        """The lines as they come; a few requests more than run at a time are made ready."""
        count = self.critic.endpoint.policy.concurrency
        finished: SimpleQueue[Future[dict[str, Any]]] = SimpleQueue()
        pool = ThreadPoolExecutor(count)
        left = iter(tasks)
        under_way, failed, in_a_row = 0, 0, 0
        failure: Exception | None = None
        first_failure = ""

        def send() -> int:
            task = None if failure else next(left, None)
            if task is None:
                return 0
            pool.submit(self._ask, task).add_done_callback(finished.put)
            return 1

        try:
            under_way = sum(send() for _ in range(2 * count))
            while under_way:
                future = finished.get()
                under_way -= 1
                try:
                    yield future.result()
                    in_a_row = 0
                except AbandonedError:
                    pass
                except BudgetError as error:
                    failure = failure or error  # what is under way has its money set aside
                except InputError as error:
                    failure = failure or error
                except WorkError as error:
                    first_failure = first_failure or str(error)
                    failed, in_a_row = failed + 1, in_a_row + 1
                    if in_a_row >= IN_A_ROW:
                        failure = failure or error
                        self.critic.endpoint.stop()
                under_way += send()
        finally:
            self.critic.endpoint.stop()
            pool.shutdown(cancel_futures=True)
            self.critic.endpoint.go_on()
        if failure is not None:
            raise failure
        if failed:
            raise WorkError(f"{failed} of {len(tasks)} requests failed: {first_failure}")

    def _ask(self, task: Task) -> dict[str, Any]:
        """The line of one task, asked until its answer is right."""
        text, why, asks = "", "", 0
        try:
            visuals = self._sent.visuals(task.images)
        except InputError as error:
            return self._line(task, text, str(error), asks)
        try:
            for attempt in range(self.reasks + 1):
                meter = self.purse.meter(self.load(task))
                sampled = attempt + (self.reasks + 1 if task.again else 0)
                reply = self.critic.reply(visuals, task.prompt, sampled, meter)
                text, why, asks = reply.text, task.check(reply), attempt + 1
                if not why:
                    break
        except RefusedError as error:
            why, asks = f"refused: {error}", asks + 1
        except InputError:
            self.critic.endpoint.stop()  # at once: other threads may be about to send
            raise
        return self._line(task, text, why, asks)

    def _line(self, task: Task, text: str, why: str, asks: int) -> dict[str, Any]:
        return {
            "id": task.id,
            "model": self.critic.name,
            "fingerprint": self.critic.fingerprint,
            "asked": task.digest,
            "text": text,
            "why": why,
            "asks": asks,
        }


def _undone(tasks: Sequence[Task], source: Path) -> list[Task]:
    """The tasks that a file of lines does not answer; its last line may be cut short."""
    asked: dict[str, str] = {}
    if source.exists():
        for _, line in scan_json_lines(source):
            if isinstance(line, dict) and isinstance(line.get("id"), str):
                asked[line["id"]] = line.get("asked", "")
    for task in tasks:
        if task.id in asked and asked[task.id] != task.digest:
            raise InputError(
                f"{source}: {task.id!r} answers another question than is asked now; "
                "name another output, or remove this file"
            )
    return [task for task in tasks if task.id not in asked]
