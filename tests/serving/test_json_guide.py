"""Texts that a guide to JSON lets a model write, and those that it does not."""

import json
import random
from typing import Any

import pytest
from tiny_critic import tiny_tokenizer

from critic_jax.errors import InputError
from critic_jax.serving.json_grammar import advance, any_object, begin, complete, grammar
from critic_jax.serving.json_guide import json_guide

VERDICT = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 30},
        "score": {"type": "integer", "minimum": 1, "maximum": 10},
        "winner": {"enum": ["A", "B", "tie", None]},
        "sure": {"type": "boolean"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}


def takes(schema: dict[str, Any] | None, text: str) -> bool:
    state = begin(any_object() if schema is None else grammar(schema))
    for letter in text:
        state = advance(state, letter)
    return complete(state)


def object_of(schema: Any, text: str) -> bool:
    return takes({"type": "object", "properties": {"x": schema}}, f'{{"x":{text}}}')


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": 1}',
        '{"a":-0.5,"b": [true, null, "x\\n\\u00e9 é"], "c": {"d": {}}}',
        '{"": [[[]]]}',
    ],
)
def test_any_object_is_taken(text: str) -> None:
    json.loads(text)
    assert takes(None, text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "1", '{"a" 1}', '{"a": 01}', '{"a": 1,}', '{"a": "\n"}', '{"a": nul}'),
        *("{}x", '{"a": "\\x"}', '{"a": .5}', '{"a": 1.}', "{a: 1}", '{"a": 1} '),
    ],
)
def test_no_other_text_is(text: str) -> None:
    assert not takes(None, text)


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        (
            {"type": "integer", "minimum": 0, "maximum": 100},
            ["0", "7", "100"],
            ["101", "-1", "07", "1.0"],
        ),
        ({"type": "number", "minimum": 1, "maximum": 5}, ["1", "4.5", "5"], ["5.1", "0.9", "6"]),
        ({"type": "integer", "minimum": -2, "maximum": 2}, ["-2", "0", "2"], ["-3", "3"]),
        ({"const": {"a": 1}}, ['{"a": 1}'], ['{"a": 2}']),
        ({"type": ["string", "null"]}, ['"x"', "null"], ["1"]),
        ({"anyOf": [{"type": "boolean"}, {"type": "integer"}]}, ["true", "-12"], ['"a"']),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
            ["[true]", "[true, false]"],
            ["[]", "[true,true,true]"],
        ),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"a\\n"'], ['"a"', '"abcd"']),
        ({"type": "object"}, ["{}", '{"k": []}'], ["[]"]),
        ({}, ["3", '"a"', "[1]"], ["nope"]),
    ],
)
def test_a_schema_is_held_to(schema: dict[str, Any], yes: list[str], no: list[str]) -> None:
    assert all(object_of(schema, text) for text in yes)
    assert not any(object_of(schema, text) for text in no)


def test_references_within_a_schema_are_followed() -> None:
    schema = {"$ref": "#/$defs/one", "$defs": {"one": {"type": "boolean"}}}
    assert takes(schema, "true") and not takes(schema, "1")


def eight(name: str) -> dict[str, Any]:
    """Eight values of another schema."""
    return {"type": "object", "properties": {n: {"$ref": f"#/$defs/{name}"} for n in "stuvwxyz"}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string", "pattern": "a+"}, "schema.pattern: cannot be held to"),
        ({"type": "thing"}, "schema.type: is 'thing'; it should be one of object, array"),
        ({"type": "integer", "minimum": 1}, "schema.maximum: both bounds"),
        (
            {"type": "integer", "minimum": 0, "maximum": 10**6},
            "schema.maximum: should be 0 to 1000",
        ),
        ({"type": "object", "properties": {"a": {"allOf": []}}}, "schema.a.type: is None"),
        ({"enum": []}, "schema.enum: should be a list of 1"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "more than 16 deep"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {n: eight(chr(ord(n) + 1)) for n in "abcde"} | {"f": {}},
            },
            "more than 2000 schemas",
        ),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "more than 16 deep"),
        ({"$ref": "http://x/y"}, "is none of this schema's own"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "schema.maxItems: is below minItems"),
        ({"type": "object", "properties": []}, "schema.properties: should be an object"),
    ],
)
def test_what_cannot_be_held_to_is_named(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        grammar(schema)
    assert said in str(caught.value)


@pytest.mark.parametrize("schema", [VERDICT, {"type": "object", "properties": {}}])
@pytest.mark.parametrize("seed", range(6))
def test_whoever_keeps_to_the_guide_writes_what_follows_the_schema(
    schema: dict[str, Any], seed: int
) -> None:
    """Tokens drawn at random among those allowed; stops as soon as it may."""
    tokenizer, dice = tiny_tokenizer(), random.Random(seed)
    guide = json_guide(schema, tokenizer)
    tokens: list[int] = []
    while True:
        ids = guide.allowed(tokens)
        assert len(ids)
        if set(tokenizer.stop_ids) & set(ids.tolist()):
            break
        tokens.append(int(dice.choice(ids.tolist())))
        assert len(tokens) < 300
    said = json.loads(tokenizer.decode(tokens))
    assert list(said) == list(schema["properties"])
    if said:
        assert 1 <= said["score"] <= 10 and 0 <= said["share"] <= 1
        assert said["winner"] in ("A", "B", "tie", None) and len(said["notes"]) <= 2
        assert type(said["sure"]) is bool and len(said["reason"]) <= 30


def test_any_object_of_a_guide_is_json() -> None:
    tokenizer, dice = tiny_tokenizer(), random.Random(3)
    guide = json_guide(None, tokenizer)
    tokens: list[int] = []
    for _ in range(60):
        ids = set(guide.allowed(tokens).tolist()) - set(tokenizer.stop_ids)
        if not ids:
            break
        tokens.append(dice.choice(sorted(ids)))
    state = begin(any_object())
    for letter in tokenizer.decode(tokens):
        state = advance(state, letter)
    assert state
