"""What a compiled program sends between chips, read from its text.

The compiler's own cost report does not tell it. A loop's body counts as often as the loop runs,
where the text says how often; a loop that decides while it runs (the chunks of log-probabilities)
counts once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (\S+.*)$")
_COLLECTIVE = re.compile(rf"^(.*?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(?:pred|(?:bf|f|s|u|c)(\d+)(?:e\d\w+)?)\[([\d,]*)\]")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_WHILE = re.compile(r" while\(.*condition=%?([^\s,]+), body=%?([^\s,]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([^\s,)]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([^\s,]+)")
_SCALAR = re.compile(
    r"(?:ROOT )?%(\S+) = (?:[su]32|pred)\[\]\S* (constant|get-tuple-element|add|compare)\(([^)]*)\)"
)
_ROOT = re.compile(r"ROOT %(\S+) = .* tuple\((.*?)\)(?:,|$)")


@dataclass
class _Computation:
    """Of one computation: collectives (kind, channel, bytes), loops (condition, body), calls.

    sizes: bytes of each result. scalars: what makes a loop's counter, operation and operands.
    results: what a body hands to its next round.
    """

    collectives: list[tuple[str, str, int]] = field(default_factory=list)
    loops: list[tuple[str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)


def collective_bytes(text: str) -> dict[str, int]:
    """Bytes by kind that each device's collectives work on in one run of a compiled program.

    The bytes of one are those of the whole array: of what is gathered, added up, scattered or
    exchanged. A ring of n devices moves (n - 1) / n of it over each link, an all-reduce twice that.
    """
    computations, entry = _read(text)
    total: dict[str, int] = dict.fromkeys(KINDS, 0)

    def add(name: str, times: int) -> None:
        # Overlapped with other work, one collective stands in several fusions, in pieces that
        # repeat its channel.
        seen: dict[tuple[str, str], int] = {}
        loops: list[tuple[str, str]] = []
        _gather(computations, name, seen, loops)
        for (kind, _), size in seen.items():
            total[kind] += times * size
        for condition, body in loops:
            add(body, times * _rounds(computations[condition], computations[body]))

    add(entry, 1)
    return total


def _gather(
    computations: dict[str, _Computation],
    name: str,
    seen: dict[tuple[str, str], int],
    loops: list[tuple[str, str]],
) -> None:
    """What one run of a computation holds, with all that it calls but for loops."""
    computation = computations[name]
    for n, (kind, channel, size) in enumerate(computation.collectives):
        key = kind, channel or f"{name} {n}"
        seen[key] = max(size, seen.get(key, 0))
    loops.extend(computation.loops)
    for called in computation.calls:
        if called in computations:
            _gather(computations, called, seen, loops)


def _rounds(condition: _Computation, body: _Computation) -> int:
    """How often a loop runs that counts from zero to a constant; 1 for any other."""
    compared = [of for kind, of in condition.scalars.values() if kind == "compare"]
    try:
        counter, limit = compared[-1]
        place = int(condition.scalars[counter][1][1])
        last = int(condition.scalars[limit][1][0])
        added = body.scalars[body.results[place]]
        steps = [body.scalars[name] for name in added[1]]
        step = next(int(of[0]) for kind, of in steps if kind == "constant")
    except (IndexError, KeyError, ValueError, StopIteration):
        return 1
    return -(-last // step)


def _read(text: str) -> tuple[dict[str, _Computation], str]:
    """All computations by name, and the name of the one that starts."""
    found: dict[str, _Computation] = defaultdict(_Computation)
    entry = current = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = head[2]
            found[current] = _Computation()
            entry = current if head[1] else entry
        elif (body := _INSTRUCTION.match(line)) and current:
            shape = _ARRAY.match(body[2])
            found[current].sizes[body[1]] = _bytes(shape) if shape else 0
            _add(found[current], current, body[2])
            _add_counter(found[current], line.strip())
    return dict(found), entry


def _add(computation: _Computation, name: str, line: str) -> None:
    if match := _COLLECTIVE.match(line):
        # TPUs scatter a sum by an all-reduce of which each device keeps its piece.
        kind = "reduce-scatter" if name.startswith("all-reduce-scatter") else match[2]
        sizes = [_bytes(array) for array in _ARRAY.finditer(match[1])]
        channel = _CHANNEL.search(line)
        # What starts one also carries its operand and some words; the result is the largest.
        size = max(sizes) if match[3] else sum(sizes)
        if match[2] == "reduce-scatter":
            operands = re.findall(r"%([^\s,)]+)", line[match.end() :].split("), ")[0])
            size = sum(computation.sizes[operand] for operand in operands)
        computation.collectives.append((kind, channel[1] if channel else "", size))
        return
    if match := _WHILE.search(line):
        computation.loops.append((match[1], match[2]))
    computation.calls.extend(_CALLED.findall(line))
    for many, one in _BRANCHES.findall(line):
        names = [n.strip().lstrip("%") for n in many.split(",")] if many else [one]
        computation.calls.extend(names)


def _add_counter(computation: _Computation, line: str) -> None:
    if match := _SCALAR.match(line):
        operands = [part.strip().lstrip("%") for part in match[3].split(",")]
        if match[2] == "get-tuple-element":
            operands.append(line.split("index=")[1].split(",")[0])
        computation.scalars[match[1]] = match[2], operands
    elif match := _ROOT.match(line):
        computation.results = re.findall(r"%([^\s,]+)", match[2])


def _bytes(array: re.Match[str]) -> int:
    size = max(1, int(array[1] or 8) // 8)
    for dimension in filter(None, array[2].split(",")):
        size *= int(dimension)
    return size
