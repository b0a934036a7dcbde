"""Judge a file: JSONL, CSV or parquet in, one judgment a line out, resumable by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh

from critic_jax.checkpoints import model_name
from critic_jax.data import BadRecord
from critic_jax.errors import InputError
from critic_jax.files import write_json, write_json_lines
from critic_jax.hosts import on_first
from critic_jax.judging.ask import Ask, Asking, pair_asks
from critic_jax.judging.cache import JudgmentCache
from critic_jax.judging.chunks import by_key, chunks
from critic_jax.judging.critic import Critic, known_fingerprint
from critic_jax.judging.endpoint import Policy
from critic_jax.judging.judgment import Judgment, Order
from critic_jax.judging.lines import JudgeLine, read_judge_lines
from critic_jax.judging.partial import Partial
from critic_jax.judging.rank import Relative, check_relative, ordered_pairs
from critic_jax.judging.rank_lines import rank_fields
from critic_jax.judging.remote import RemoteCritic, check_remote
from critic_jax.judging.replicas import Replicas, load_replicas
from critic_jax.judging.summary import summarise
from critic_jax.progress import progress
from critic_jax.remote import cache_root

CHUNK = 128
"""Questions that are made ready and handed to the judge at a time; their results are on disk before
the next are."""


def judge_file(
    model: str,
    input: Path,
    output: Path,
    order: Literal["given", "both"] = "given",
    skip_bad: bool = False,
    limit: int | None = None,
    cache: Path | None = None,
    endpoint: str | None = None,
    policy: Policy | None = None,
    asking: Asking = Asking(),  # noqa: B008 (frozen)
    memory: int | None = None,
    relative: Relative | None = None,
    devices: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Judge every line of `input` into `output`; returns the summary, also written beside it.

    A line asks for a score, a comparison or a ranking by the answers that it holds.

    A result is the judgment's fields and what was judged (`image`, seen from the output's folder,
    `question` and the answers). While it works, results stand in `output` + ".partial"; a later
    call goes on from there, and one with a `limit` keeps what was judged beyond it. With order
    "both", each pair is asked twice and its two results carry `order`: "ab" | "ba". A wrong line
    raises InputError, or with `skip_bad` goes to rejected.jsonl beside the output.

    cache: a folder of judgments to take from and to add to. endpoint: the address of another judge,
    asked for `model` as `policy` says. asking: how each question is asked; a result holds what is
    not as usual. memory: bytes, as `Engine` takes them. relative: what the rewards of rankings are
    made of, by default two scores where the template asks for them, else verdicts. devices: of a
    replica (`replica_meshes`). settings: of `Sampling`, instead of what the checkpoint prescribes,
    and `weights` and `dtype` as `Critic` takes them.

    On several processes all call this with the same arguments: they share the lines out, and the
    first reads the input and writes; pictures must be there for all. One replica that they hold
    together uses no cache.
    """
    if relative == "probability":
        asking = replace(asking, probabilities=True)
    if limit is not None and limit < 0:
        raise InputError(f"limit is {limit}; it must be 0 or more")
    if endpoint:
        check_remote(asking)
        if devices:
            raise InputError("replica_devices: an endpoint has its own; leave it out")
    name = model if endpoint else model_name(model)
    lines, rejected = on_first(partial(_sort_out, input, skip_bad, limit))
    _check_relative(lines, relative, input)
    how = {"asking": asking.wishes() or None, "relative": relative}
    results = on_first(partial(Partial, output, name, how))
    wanted = [
        _Wanted(line, o, order == "both" and line.pairwise)
        for line in lines
        for o in (("ab", "ba") if order == "both" and line.pairwise else ("ab",))
    ]
    if results.done:  # told before the model is loaded, and where it need not be
        known = on_first(partial(_known, model, endpoint, policy, memory, settings))
        if known is not None:
            results.check_fingerprint(known)
    usage: dict[str, Any] = {}
    undone = [one for one in wanted if one.key not in results.done]
    waiting = by_key(undone, lambda one: one.line.images)
    if waiting:
        load = partial(_load, model, endpoint, policy, memory, settings)
        replicas: Replicas[Any]
        if endpoint:
            here: list[Any] = []
            on_first(lambda: here.append(load()))  # what is wrong with it is told by all
            replicas = Replicas(here)
        else:
            replicas = load_replicas(load, model, settings.get("dtype"), devices)
        results.check_fingerprint(replicas.fingerprint)
        kept = None
        if cache is not None and not replicas.together:
            kept = JudgmentCache(cache, replicas.fingerprint, name, asking)
        run = _Run(replicas, asking, relative, results, output.parent, kept, skip_bad, rejected)
        run.judge(waiting, sum(one.questions for one in wanted))
        if replicas.here and isinstance(asked := replicas.here[0], RemoteCritic):
            usage = {"requests": asked.endpoint.requests, "tokens": asked.endpoint.tokens}
    return on_first(
        partial(_finish, results, wanted, output, name, limit, skip_bad, rejected, usage)
    )


def _finish(
    partial: Partial,
    wanted: Sequence[_Wanted],
    output: Path,
    name: str,
    limit: int | None,
    skip_bad: bool,
    rejected: Sequence[dict[str, Any]],
    usage: dict[str, Any],
) -> dict[str, Any]:
    """Write what came out of it; returns the summary."""
    results = partial.results([one.key for one in wanted], keep_others=limit is not None)
    both = {one.key: one.order for one in wanted if one.both}
    # A result of an earlier call that did not ask both ways lacks its order.
    for n, fields in enumerate(results):
        if o := both.get((fields["id"], fields.get("order", "ab"))):
            results[n] = fields | {"order": o}
    write_json_lines(output, results)
    partial.finish()
    bad = output.with_name("rejected.jsonl")
    if rejected:
        write_json_lines(bad, sorted(rejected, key=lambda r: r["line"]))
    elif skip_bad:
        bad.unlink(missing_ok=True)
    summary = summarise(results, name) | {"rejected": len(rejected)} | usage
    write_json(output.with_name("summary.json"), summary)
    return summary


def judgments_folder(given: Path | None, none: bool) -> Path | None:
    """Where judgments are cached: a folder that is given, else the one that all runs share."""
    if none and given is not None:
        raise InputError("--cache and --no-cache exclude each other; give one of them")
    if given is not None and given.exists() and not given.is_dir():
        raise InputError(f"--cache {given}: is a file; it should be a folder")
    return None if none else given or cache_root() / "judgments"


@dataclass(frozen=True)
class _Wanted:
    """A line to judge, in one order; `both` if the other is wanted too."""

    line: JudgeLine
    order: Order
    both: bool

    @property
    def key(self) -> tuple[str, Order]:
        return self.line.id, self.order

    @property
    def questions(self) -> int:
        """How many the judge is asked for this line's result."""
        count = len(self.line.responses)
        return count * (count - 1) or 1

    def asks(self, visuals: tuple[Any, ...]) -> list[Ask]:
        """What the judge is asked for this line's result."""
        line = self.line
        if line.responses:
            pairs = ordered_pairs(len(line.responses))
            return pair_asks(visuals, line.template, line.texts, line.responses, pairs)
        return [Ask(visuals, line.template, line.texts, self.order)]

    def result(self, judgments: Sequence[Judgment], run: _Run) -> dict[str, Any]:
        """The line that goes into the results, from what was answered."""
        ranked = len(self.line.responses)
        said = rank_fields(judgments, ranked, run.relative) if ranked else judgments[0].to_dict()
        fields = {"id": self.line.id, **said, "fingerprint": run.replicas.fingerprint}
        if wishes := run.asking.wishes():
            fields["asking"] = wishes
        if run.relative is not None:
            fields["relative"] = run.relative
        if self.both:
            fields["order"] = self.order
        return fields | self.line.shown(run.folder)


@dataclass(frozen=True)
class _Done:
    """What became of a line: its result, or what is wrong with it."""

    one: _Wanted
    fields: dict[str, Any] | None = None
    error: InputError | None = None


@dataclass
class _Run:
    """What judging the lines of one file needs."""

    replicas: Replicas[Any]
    asking: Asking
    relative: Relative | None
    partial: Partial
    folder: Path
    cache: JudgmentCache | None
    skip_bad: bool
    rejected: list[dict[str, Any]]
    _broken: set[int] = field(default_factory=set)

    def judge(self, waiting: Sequence[_Wanted], total: int) -> None:
        """Judge all and write each result; `total` includes what was done before."""
        done = total - sum(one.questions for one in waiting)
        most = max(1, min(CHUNK, -(-(total - done) // self.replicas.count)))
        pieces = list(chunks(waiting, lambda one: one.line.images, lambda one: one.questions, most))
        with progress() as bar, self.partial:
            task = bar.add_task("judging", total=total, completed=done)
            for critic in self.replicas.here:
                if isinstance(critic, Critic):
                    critic.engine.watch = lambda count: bar.advance(task, count)
            for found in self.replicas.work(pieces, self._chunk):
                if found.error is not None:
                    self._reject(found.one.line, found.error)
                else:
                    assert found.fields is not None
                    self.partial.write(found.fields)
                done += found.one.questions
                bar.update(task, completed=done)

    def _chunk(self, critic: Critic | RemoteCritic, chunk: Sequence[_Wanted]) -> Iterator[_Done]:
        """Judge a chunk; yields each line when it is done, wrong ones when they are found."""
        asks: list[Ask] = []
        owners: list[_Wanted] = []  # of each ask
        places: list[int] = []  # of each ask among its owner's
        answers: dict[tuple[str, Order], dict[int, Judgment]] = {}
        visuals, wrong = self._visuals(critic, chunk)
        for number, one in enumerate(chunk):
            if number in wrong:
                yield _Done(one, error=wrong[number])
                if not self.skip_bad:
                    return
                continue
            for place, ask in enumerate(one.asks(visuals[one.line.images])):
                asks.append(ask)
                owners.append(one)
                places.append(place)
        refused: dict[int, _Done] = {}
        for number, answer in self._judged(critic, asks):
            one = owners[number]
            if isinstance(answer, InputError):
                refused[one.line.line] = _Done(one, error=answer)
                continue
            said = answers.setdefault(one.key, {})
            said[places[number]] = answer
            if len(said) == one.questions:
                ordered = [said[place] for place in range(len(said))]
                yield _Done(one, one.result(ordered, self))
        yield from refused.values()  # once the others are written

    def _visuals(
        self, critic: Critic | RemoteCritic, chunk: Sequence[_Wanted]
    ) -> tuple[dict[Any, tuple[Any, ...]], dict[int, InputError]]:
        """The pictures of a chunk made ready; by the lines' places, what is wrong with them."""
        ready: dict[Any, tuple[Any, ...]] = {}
        broken: dict[Any, InputError] = {}
        for one in chunk:
            images = one.line.images
            if images in ready or images in broken:
                continue
            try:
                ready[images] = critic.visuals(list(images) or None, "field 'image'")
            except InputError as error:
                broken[images] = error
        wrong = {
            n: broken[one.line.images] for n, one in enumerate(chunk) if one.line.images in broken
        }
        return ready, self.replicas.agreed(wrong)

    def _reject(self, line: JudgeLine, error: InputError) -> None:
        reason = f"{line.where}: {error}"
        if not self.skip_bad:
            raise InputError(reason) from None
        if line.line not in self._broken:  # a pair asked in both orders is told once
            self.rejected.append(_rejection(BadRecord(line.line, line.id, reason)))
            self._broken.add(line.line)

    def _judged(
        self, critic: Critic | RemoteCritic, asks: Sequence[Ask]
    ) -> Iterator[tuple[int, Judgment | InputError]]:
        """Each judgment with its ask's place, from the cache or from the judge."""
        missing: list[int] = []
        for place, ask in enumerate(asks):
            found = self.cache.get(ask) if self.cache else None
            if found is None:
                missing.append(place)
            else:
                yield place, found
        if not missing:
            return
        wanted = [asks[place] for place in missing]
        answers: Iterator[tuple[int, Judgment | InputError]]
        if isinstance(critic, RemoteCritic):
            answers = critic.judge_each(wanted, self.asking)
        else:
            answers = enumerate(critic.judge(wanted, self.asking))
        for number, answer in answers:
            if self.cache and isinstance(answer, Judgment):
                self.cache.put(wanted[number], answer)
            yield missing[number], answer


def _load(
    model: str,
    endpoint: str | None,
    policy: Policy | None,
    memory: int | None,
    settings: dict[str, Any],
    mesh: Mesh | None = None,
) -> Critic | RemoteCritic:
    given = {name: value for name, value in settings.items() if value is not None}
    if endpoint is None:
        if not given.get("temperature"):
            given.pop("seed", None)  # nothing is drawn: the judge is the same with any seed
        if mesh is not None:
            given["mesh"] = mesh
        return Critic.load(model, memory=memory, **given)
    if given.pop("weights", "full") != "full":
        raise InputError("weights: an endpoint holds its own; leave it out")
    for name, value in (
        ("dtype", given.get("dtype")),
        ("repetition_penalty", given.get("repetition_penalty")),
        ("memory", memory),
    ):
        if value is not None:
            raise InputError(f"{name}: an endpoint takes none; leave it out")
    return RemoteCritic(endpoint, model, policy or Policy(), **given)


def _known(
    model: str,
    endpoint: str | None,
    policy: Policy | None,
    memory: int | None,
    settings: dict[str, Any],
) -> str | None:
    """The judge's fingerprint, where it is known without loading a model."""
    if endpoint is not None:
        return _load(model, endpoint, policy, memory, settings).fingerprint
    seed = {} if settings.get("temperature") else {"seed": None}
    return known_fingerprint(model, **{**settings, **seed})


def _check_relative(lines: Sequence[JudgeLine], relative: Relative | None, path: Path) -> None:
    """Raise InputError where no line is ranked by it."""
    if relative is None:
        return
    ranked = [line for line in lines if line.responses]
    if not ranked:
        raise InputError(f"{path}: relative is for lines with responses to rank; there are none")
    for line in ranked:
        try:
            check_relative(line.template, relative)
        except InputError as error:
            raise InputError(f"{line.where}: {error}") from None


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
