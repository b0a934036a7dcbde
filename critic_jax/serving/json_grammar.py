"""JSON schemas as grammars that a text is held against letter by letter.

A grammar is made of frozen nodes. How far a text has come is a set of stacks: what may still
follow, each stack one way to go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from critic_jax.errors import InputError

DEEPEST = 5
"""How deep values may lie in each other where a schema leaves them free."""

WIDEST = 1000
"""Numbers of a scale, or of a list, at most."""

LARGEST = 2000
"""Schemas in a schema, at most: references may name one again and again."""


class Node:
    """Some texts."""


@dataclass(frozen=True)
class Literal(Node):
    """This text."""

    text: str


@dataclass(frozen=True)
class Letter(Node):
    """One letter: one of `of`, or with `other` any but these and control characters."""

    of: str
    other: bool = False

    def holds(self, letter: str) -> bool:
        """Whether the letter is one of them."""
        if self.other:
            return letter not in self.of and letter >= " " and letter != "\ufffd"
        return letter in self.of


@dataclass(frozen=True)
class Sequence(Node):
    """One after the other."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Choice(Node):
    """One of them."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Repeated(Node):
    """`least` to `most` times; any number where most is None."""

    node: Node
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Free(Node):
    """Any JSON value, with values of so many levels in it."""

    depth: int


Stack = tuple[Node, ...]
State = frozenset[Stack]

_HEX = Letter("0123456789abcdefABCDEF")
_ESCAPED = Sequence(
    (
        Literal("\\"),
        Choice((Letter('"\\/bfnrt'), Sequence((Literal("u"), Repeated(_HEX, 4, 4))))),
    )
)
_CHARACTER = Choice((Letter('"\\', other=True), _ESCAPED))
_GAP = Repeated(Literal(" "), 0, 1)
_DIGITS = Letter("0123456789")
_NATURAL = Choice((Literal("0"), Sequence((Letter("123456789"), Repeated(_DIGITS, 0, 14)))))
_INTEGER = Sequence((Repeated(Literal("-"), 0, 1), _NATURAL))
_FRACTION = Sequence((Literal("."), Repeated(_DIGITS, 1, 6)))
_NUMBER = Sequence((_INTEGER, Repeated(_FRACTION, 0, 1)))
_BOOLEAN = Choice((Literal("true"), Literal("false")))
_ANNOTATIONS = frozenset(
    (
        *("$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default"),
        *("examples", "format", "deprecated", "additionalProperties", "required", "strict"),
    )
)
_OF_TYPE = {
    "object": ("properties",),
    "array": ("items", "minItems", "maxItems"),
    "string": ("minLength", "maxLength"),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "boolean": (),
    "null": (),
}


def any_object() -> Node:
    """Any JSON object."""
    return _members(Free(DEEPEST - 1))


def grammar(schema: Mapping[str, Any]) -> Node:
    """The JSON texts that follow a schema, with at most a space behind each colon and comma.

    An object has its `properties`, all of them, in their order. Raises InputError for what is not
    known here.
    """
    return _Reader(schema).node(schema, "schema", 0)


class _Reader:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._read = 0

    def node(self, schema: Any, where: str, depth: int) -> Node:
        self._read += 1
        if self._read > LARGEST:
            raise InputError(f"{where}: more than {LARGEST} schemas lie in each other")
        if depth > 16:
            raise InputError(f"{where}: schemas lie more than 16 deep in each other")
        if schema is True or schema == {}:
            return Free(DEEPEST - 1)
        if not isinstance(schema, Mapping):
            raise InputError(f"{where}: should be a schema, an object")
        if "$ref" in schema:
            return self.node(self._referred(schema["$ref"], where), where, depth + 1)
        if "const" in schema:
            return Literal(_written(schema["const"]))
        if "enum" in schema:
            values = schema["enum"]
            if not isinstance(values, list) or not 1 <= len(values) <= WIDEST:
                raise InputError(f"{where}.enum: should be a list of 1 to {WIDEST} values")
            return Choice(tuple(Literal(_written(value)) for value in values))
        for name in ("anyOf", "oneOf"):
            if name in schema:
                options = schema[name]
                if not isinstance(options, list) or not options:
                    raise InputError(f"{where}.{name}: should be a list of schemas")
                return Choice(tuple(self.node(o, f"{where}.{name}", depth + 1) for o in options))
        kind = schema.get("type", "object" if "properties" in schema else None)
        if isinstance(kind, list) and kind:
            options = [{**schema, "type": one} for one in kind]
            return Choice(tuple(self.node(o, where, depth + 1) for o in options))
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            raise InputError(
                f"{where}.type: is {kind!r}; it should be one of {', '.join(_OF_TYPE)}"
            )
        unknown = set(schema) - _ANNOTATIONS - {"type", *_OF_TYPE[kind]}
        if unknown:
            raise InputError(f"{where}.{sorted(unknown)[0]}: cannot be held to while decoding")
        return self._of_type(kind, schema, where, depth)

    def _of_type(self, kind: str, schema: Mapping[str, Any], where: str, depth: int) -> Node:
        if kind == "object":
            if "properties" not in schema:
                return any_object()
            properties = schema["properties"]
            if not isinstance(properties, Mapping):
                raise InputError(f"{where}.properties: should be an object")
            members: list[Node] = [
                Sequence(
                    (
                        Literal(f"{_written(name)}:"),
                        _GAP,
                        self.node(value, f"{where}.{name}", depth + 1),
                    )
                )
                for name, value in properties.items()
            ]
            return _enclosed("{", members, "}")
        if kind == "array":
            item = self.node(schema.get("items", {}), f"{where}.items", depth + 1)
            least, most = _counts(schema, "minItems", "maxItems", where)
            return _listed(item, least, most)
        if kind == "string":
            least, most = _counts(schema, "minLength", "maxLength", where)
            return Sequence((Literal('"'), Repeated(_CHARACTER, least, most), Literal('"')))
        if kind in ("integer", "number"):
            return _number(kind, schema, where)
        return _BOOLEAN if kind == "boolean" else Literal("null")

    def _referred(self, name: Any, where: str) -> Any:
        found: Any = self._root
        if not isinstance(name, str) or not (name == "#" or name.startswith("#/")):
            raise InputError(f"{where}.$ref: {name!r} is none of this schema's own, '#/...'")
        for part in name.split("/")[1:]:
            if not isinstance(found, Mapping) or part not in found:
                raise InputError(f"{where}.$ref: {name!r} is not there")
            found = found[part]
        return found


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _counts(schema: Mapping[str, Any], low: str, high: str, where: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if value is not None and (type(value) is not int or not 0 <= value <= WIDEST):
            raise InputError(f"{where}.{name}: should be a whole number, 0 to {WIDEST}")
    if most is not None and most < least:
        raise InputError(f"{where}.{high}: is below {low}")
    return least, most


def _number(kind: str, schema: Mapping[str, Any], where: str) -> Node:
    low: Any = schema.get("minimum")
    high: Any = schema.get("maximum")
    if low is None and high is None:
        return _INTEGER if kind == "integer" else _NUMBER
    for name, value in (("minimum", low), ("maximum", high)):
        if type(value) not in (int, float) or value != int(value):
            raise InputError(f"{where}.{name}: both bounds of a scale are needed, whole numbers")
    low, high = int(low), int(high)
    if not 0 <= high - low <= WIDEST:
        raise InputError(f"{where}.maximum: should be {low} to {low + WIDEST}")
    whole = Choice(tuple(Literal(str(value)) for value in range(low, high + 1)))
    if kind == "integer" or high <= max(low, 0):
        return whole
    parts = Choice(tuple(Literal(str(value)) for value in range(max(low, 0), high)))
    between = Sequence((parts, Literal("."), Repeated(_DIGITS, 1, 2)))
    return Choice((whole, between))


def _enclosed(opening: str, members: list[Node], closing: str) -> Node:
    """Members in a row, a comma between each two."""
    nodes: list[Node] = [Literal(opening)]
    for number, member in enumerate(members):
        nodes += [Literal(","), _GAP, member] if number else [member]
    return Sequence((*nodes, Literal(closing)))


def _some(member: Node, least: int, most: int | None, opening: str, closing: str) -> Node:
    """A row of as many members."""
    more = Sequence((Literal(","), _GAP, member))
    rest = Repeated(more, max(least - 1, 0), None if most is None else max(most - 1, 0))
    row: Node = Sequence((member, rest))
    if most == 0:
        row = Literal("")
    elif least == 0:
        row = Repeated(row, 0, 1)
    return Sequence((Literal(opening), row, Literal(closing)))


def _listed(item: Node, least: int, most: int | None) -> Node:
    return _some(item, least, most, "[", "]")


def _members(value: Node) -> Node:
    name = Sequence((Literal('"'), Repeated(_CHARACTER), Literal('"')))
    return _some(Sequence((name, Literal(":"), _GAP, value)), 0, None, "{", "}")


def _free(depth: int) -> Node:
    text = Sequence((Literal('"'), Repeated(_CHARACTER), Literal('"')))
    plain: tuple[Node, ...] = (text, _NUMBER, _BOOLEAN, Literal("null"))
    if depth < 1:
        return Choice(plain)
    return Choice((*plain, _listed(Free(depth - 1), 0, None), _members(Free(depth - 1))))


def begin(node: Node) -> State:
    """The state before the first letter."""
    return frozenset(_open((node,)))


def advance(state: State, letter: str) -> State:
    """The state behind a letter; empty where it may not stand."""
    found: set[Stack] = set()
    for stack in state:
        if not stack:
            continue
        top, rest = stack[0], stack[1:]
        if isinstance(top, Literal):
            if top.text[0] == letter:
                tail = top.text[1:]
                found.update([(Literal(tail), *rest)] if tail else _open(rest))
        elif isinstance(top, Letter) and top.holds(letter):
            found.update(_open(rest))
    return frozenset(found)


def complete(state: State) -> bool:
    """Whether a text may end here."""
    return () in state


def _open(stack: Stack) -> Iterator[Stack]:
    """The stacks that it stands for, whose tops are letters or literals, or that are empty."""
    if not stack:
        yield ()
        return
    top, rest = stack[0], stack[1:]
    if isinstance(top, Literal) and not top.text:
        yield from _open(rest)
    elif isinstance(top, Literal | Letter):
        yield stack
    elif isinstance(top, Sequence):
        yield from _open((*top.nodes, *rest))
    elif isinstance(top, Choice):
        for node in top.nodes:
            yield from _open((node, *rest))
    elif isinstance(top, Free):
        yield from _open((_free(top.depth), *rest))
    elif isinstance(top, Repeated):
        if top.least == 0:
            yield from _open(rest)
        if top.most != 0:
            left = None if top.most is None else top.most - 1
            again = Repeated(top.node, max(top.least - 1, 0), left)
            yield from _open((top.node, again, *rest))
