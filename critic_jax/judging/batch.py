"""Judge a file: JSONL in, one judgment a line out, resumable by id."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

from critic_jax.checkpoints import model_name
from critic_jax.data import BadRecord, read_json_lines
from critic_jax.errors import InputError
from critic_jax.files import write_atomically, write_json, write_json_lines
from critic_jax.judging.critic import Ask, Critic
from critic_jax.judging.judgment import Order
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.progress import progress

Key = tuple[str, Order]


def judge_file(
    model: str,
    input: Path,
    output: Path,
    order: Literal["given", "both"] = "given",
    skip_bad: bool = False,
    limit: int | None = None,
    repetition_penalty: float | None = None,
) -> dict[str, Any]:
    """Judge every line of `input` into `output`; returns the summary, also written beside it.

    A result is the judgment's fields and what was judged (`image`, seen from the output's folder,
    `question` and the answers). While it works, results stand in `output` + ".partial"; a later
    call goes on from there, and one with a `limit` keeps what was judged beyond it. With order
    "both", each pair is asked twice and its two results carry `order`: "ab" | "ba". A wrong line
    raises InputError, or with `skip_bad` goes to rejected.jsonl beside the output. A repetition
    penalty that the checkpoint prescribes is in force unless another is given.
    """
    lines, rejected = _sort_out(input, skip_bad, limit)
    partial = output.with_name(output.name + ".partial")
    output.parent.mkdir(parents=True, exist_ok=True)
    name = model_name(model)
    done, prints = _resume(output, partial, name)
    wanted: list[tuple[JudgeLine, Order]] = [
        (line, o)
        for line in lines
        for o in (("ab", "ba") if order == "both" and line.pairwise else ("ab",))
    ]
    waiting = [(line, o) for line, o in wanted if (line.id, o) not in done]
    if waiting:
        critic = Critic.load(model, repetition_penalty=repetition_penalty)
        _same(prints, critic.fingerprint, partial, name)
        with progress() as bar, partial.open("a", encoding="utf-8") as file:
            task = bar.add_task("judging", total=len(wanted), completed=len(wanted) - len(waiting))
            critic.engine.watch = lambda count: bar.advance(task, count)
            for chunk in _chunks(waiting, critic.engine.batch * 4):
                _judge_chunk(critic, chunk, order, skip_bad, file, output.parent, rejected)
    results = _in_order(partial, wanted, order, keep_others=limit is not None)
    write_json_lines(output, results)
    partial.unlink(missing_ok=True)
    bad = output.with_name("rejected.jsonl")
    if rejected:
        write_json_lines(bad, sorted(rejected, key=lambda r: r["line"]))
    elif skip_bad:
        bad.unlink(missing_ok=True)
    summary = summarise(results, name) | {"rejected": len(rejected)}
    write_json(output.with_name("summary.json"), summary)
    return summary


def _sort_out(
    path: Path, skip_bad: bool, limit: int | None
) -> tuple[list[JudgeLine], list[dict[str, Any]]]:
    lines: list[JudgeLine] = []
    rejected: list[dict[str, Any]] = []
    for found in islice(read_judge_lines(path), limit):
        if isinstance(found, JudgeLine):
            lines.append(found)
        elif skip_bad:
            rejected.append(_rejection(found))
        else:
            raise InputError(found.reason)
    return lines, rejected


def _rejection(bad: BadRecord) -> dict[str, Any]:
    return {"line": bad.line, "id": bad.id, "reason": bad.reason}


def _judge_chunk(
    critic: Critic,
    chunk: list[tuple[JudgeLine, Order]],
    order: str,
    skip_bad: bool,
    file: TextIO,
    folder: Path,
    rejected: list[dict[str, Any]],
) -> None:
    asks: list[Ask] = []
    kept: list[tuple[JudgeLine, Order]] = []
    broken = {r["line"] for r in rejected}
    for line, o in chunk:
        try:
            visuals = critic.visuals(list(line.images) or None, "field 'image'")
        except InputError as e:
            reason = f"{line.where}: {e}"
            if not skip_bad:
                raise InputError(reason) from None
            if line.line not in broken:
                rejected.append(_rejection(BadRecord(line.line, line.id, reason)))
                broken.add(line.line)
            continue
        asks.append(Ask(visuals, line.template, line.texts, o))
        kept.append((line, o))
    for (line, o), result in zip(kept, critic.judge(asks), strict=True):
        fields = {"id": line.id, **result.to_dict(), "fingerprint": critic.fingerprint}
        if order == "both" and line.pairwise:
            fields["order"] = o
        fields |= line.shown(folder)
        file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _resume(output: Path, partial: Path, model: str) -> tuple[set[Key], set[str]]:
    """What has been judged already, which then stands in the partial file; the fingerprints in it.

    A line that a kill cut short leaves it. Raises InputError for results of another model's name.
    """
    source = partial if partial.exists() else output
    if not source.exists():
        return set(), set()
    if source == partial:
        written = partial.read_bytes()
        if not written.endswith(b"\n"):
            write_atomically(partial, written[: written.rfind(b"\n") + 1].decode())
    done: set[Key] = set()
    prints: set[str] = set()
    for number, fields in read_json_lines(source):
        other = fields.get("model")
        if other != model or not isinstance(fields.get("id"), str):
            said = "no judgment" if other is None else f"a judgment of model {other!r}"
            raise InputError(
                f"{source} line {number}: is {said}, not of {model!r}; "
                "name another output, or remove this file"
            )
        done.add((fields["id"], fields.get("order", "ab")))
        prints.add(str(fields.get("fingerprint")))
    if source != partial:
        write_atomically(partial, output.read_text(encoding="utf-8"))
    return done, prints


def _same(prints: set[str], fingerprint: str, path: Path, model: str) -> None:
    """Raise InputError if earlier results are of another model with the same name."""
    if others := sorted(prints - {fingerprint}):
        raise InputError(
            f"{path}: holds judgments of a {model!r} with the fingerprint {others[0]}, this one "
            f"has {fingerprint}: other weights or sampler settings; name another output"
        )


def _in_order(
    partial: Path, wanted: list[tuple[JudgeLine, Order]], order: str, keep_others: bool
) -> list[dict[str, Any]]:
    """The results as the input has its lines; the others behind them, if they are kept."""
    if not partial.exists():
        return []
    found = {(f["id"], f.get("order", "ab")): f for _, f in read_json_lines(partial)}
    results = []
    for line, o in wanted:
        if fields := found.pop((line.id, o), None):
            # A result of an earlier call that did not ask both ways lacks its order.
            results.append(fields | {"order": o} if order == "both" and line.pairwise else fields)
    return [*results, *found.values()] if keep_others else results


def summarise(results: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """Counts, and beside them always the rate of answers that held no verdict."""
    unparsed = sum(r["state"] == "unparsed" for r in results)
    scores = [r["score"] for r in results if "score" in r]
    verdicts: dict[str, int] = {}
    for r in results:
        if "verdict" in r:
            verdicts[r["verdict"]] = verdicts.get(r["verdict"], 0) + 1
    return {
        "model": model,
        "fingerprint": results[0].get("fingerprint") if results else None,
        "judgments": len(results),
        "unparsed": unparsed,
        "unparsed_rate": unparsed / len(results) if results else None,
        "mean_score": sum(scores) / len(scores) if scores else None,
        "verdicts": dict(sorted(verdicts.items())),
    }
