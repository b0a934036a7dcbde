"""From the messages of a request to a path of the token tree."""

from __future__ import annotations

from collections.abc import Sequence

from critic_jax.data.encode import as_path
from critic_jax.imaging import Visual
from critic_jax.serving.errors import Refused
from critic_jax.serving.schema import ImagePart, Message
from critic_jax.text import IMAGE, SYSTEM_TURN, ChatTokenizer, Part, Turn, encode_chat
from critic_jax.tree import Path


def picture_urls(messages: Sequence[Message]) -> list[str]:
    """Where the pictures of a conversation are, in order. Raises Refused where none may be."""
    found = []
    for message in messages:
        urls = [part.url for part in message.content or [] if isinstance(part, ImagePart)]
        if urls and message.role != "user":
            raise Refused(400, f"a picture in a message of {message.role}; users show pictures")
        found += urls
    return found


def as_turns(messages: Sequence[Message], keep_order: bool = False) -> list[Turn]:
    """The turns of a conversation; `<|im_end|>` and its like in a text stay text.

    System messages may stand in front only, and are joined; without any, the model's own is taken.
    The pictures of a message go before its text, where the critic was trained to find them, unless
    keep_order. Raises Refused for turns that a model cannot answer.
    """
    system: list[str] = []
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        if message.role in ("system", "developer"):
            if turns:
                raise Refused(400, f"messages[{number}]: a system message stands behind others")
            system.append(_text(message))
        elif message.role == "assistant":
            turns.append(Turn("assistant", (_text(message),)))
        else:
            turns.append(Turn("user", _parts(message, keep_order)))
    if not turns or turns[-1].role != "user":
        raise Refused(400, "the last message must be a user's: it is what is answered", "messages")
    return [Turn("system", ("\n".join(system),)) if system else SYSTEM_TURN, *turns]


def conversation_path(
    turns: Sequence[Turn], visuals: Sequence[Visual], tokenizer: ChatTokenizer
) -> Path:
    """Turns up to where the answer begins."""
    lengths = [len(visual.tap_index) for visual in visuals]
    encoded = encode_chat(tokenizer, turns, lengths, generation_prompt=True)
    return as_path(encoded, visuals, tokenizer)


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content or [] if not isinstance(part, ImagePart))


def _parts(message: Message, keep_order: bool) -> tuple[Part, ...]:
    """A user's turn: a newline behind each picture, as in training."""
    content = message.content
    if content is None or isinstance(content, str):
        return (content or "",)
    if not keep_order:
        content = sorted(content, key=lambda part: not isinstance(part, ImagePart))
    parts: list[Part] = []
    for part in content:
        if isinstance(part, ImagePart):
            parts += [IMAGE, "\n"]
        elif parts and isinstance(parts[-1], str) and parts[-1] != "\n":
            parts[-1] += "\n" + part.text
        elif parts and parts[-1] == "\n":
            parts[-1] += part.text
        else:
            parts.append(part.text)
    return tuple(parts)
