"""Text: conversations in ChatML, and a tokenizer that no text can talk into a control token.

Names that need the tokenizers library load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .turns import IMAGE, SYSTEM_TURN, Part, Role, Turn, leading_markers, record_turns

if TYPE_CHECKING:
    from .chat import Encoded, LabelRule, encode_chat
    from .tokenizer import ChatTokenizer
    from .train_tokenizer import train_tokenizer

_LATER = {
    "ChatTokenizer": "tokenizer",
    "Encoded": "chat",
    "LabelRule": "chat",
    "encode_chat": "chat",
    "train_tokenizer": "train_tokenizer",
}

__all__ = [
    "IMAGE",
    "SYSTEM_TURN",
    "ChatTokenizer",
    "Encoded",
    "LabelRule",
    "Part",
    "Role",
    "Turn",
    "encode_chat",
    "leading_markers",
    "record_turns",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value
