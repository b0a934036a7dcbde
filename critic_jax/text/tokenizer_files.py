"""Reading a tokenizer's folder: the bare byte-level BPE, and apart from it the added tokens."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from critic_jax.errors import InputError

# Everything about text that a checkpoint's folder may hold; kept and written back byte for byte.
KEPT_FILES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)

# How Qwen2 cuts a text before merging: contractions, words with at most one sign in front, single
# digits, runs of signs, line ends, other white space. A format constant: one character of
# difference gives other ids.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def qwen2_bpe(model: BPE) -> Tokenizer:
    """A tokenizer without added tokens: NFC, Qwen2's cuts, bytes, then the model's merges."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read_kept_files(folder: Path) -> dict[str, bytes]:
    """The contents of those `KEPT_FILES` that the folder holds."""
    return {name: (folder / name).read_bytes() for name in KEPT_FILES if (folder / name).is_file()}


def bare_tokenizer(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """The tokenizer without its added tokens, from tokenizer.json or vocab.json + merges.txt.

    Without them, and not merely told to skip them, because a text that spells one must never turn
    into its id. Raises InputError for a folder that holds neither, or a damaged file.
    """
    if "tokenizer.json" in files:
        described = _json_object(files, "tokenizer.json", where)
        added = {token.get("content") for token in described.get("added_tokens") or []}
        for unused in ("added_tokens", "truncation", "padding", "post_processor"):
            described[unused] = [] if unused == "added_tokens" else None
        vocabulary = described.get("model", {}).get("vocab")
        if isinstance(vocabulary, dict):
            for content in added & set(vocabulary):
                del vocabulary[content]
        try:
            return Tokenizer.from_str(json.dumps(described))
        except Exception as e:  # the library raises bare Exception
            raise InputError(f"{where}/tokenizer.json cannot be read as a tokenizer: {e}") from None
    if "vocab.json" in files and "merges.txt" in files:
        with tempfile.TemporaryDirectory() as scratch:  # the library reads paths only
            for name in ("vocab.json", "merges.txt"):
                Path(scratch, name).write_bytes(files[name])
            try:
                model = BPE.from_file(
                    os.path.join(scratch, "vocab.json"), os.path.join(scratch, "merges.txt")
                )
            except Exception as e:  # as above
                raise InputError(f"{where}: vocab.json and merges.txt do not fit: {e}") from None
        return qwen2_bpe(model)
    raise InputError(f"{where} holds no tokenizer.json, nor vocab.json with merges.txt")


def added_tokens(files: Mapping[str, bytes], where: str) -> dict[str, tuple[int, bool]]:
    """Each added token's (id, special), gathered from every file that lists some.

    Raises InputError when two files, or two tokens, disagree about an id.
    """
    found: dict[str, tuple[int, bool]] = {}

    def add(content: object, id: object, special: bool) -> None:
        if not isinstance(content, str) or not isinstance(id, int):
            raise InputError(f"{where}: added token {content!r} has the id {id!r}; a number fits")
        if found.setdefault(content, (id, special))[0] != id:
            known = found[content][0]
            raise InputError(f"{where}: added token {content} has two ids, {known} and {id}")

    if "tokenizer.json" in files:
        for token in _json_object(files, "tokenizer.json", where).get("added_tokens", []):
            add(token.get("content"), token.get("id"), bool(token.get("special")))
    if "tokenizer_config.json" in files:
        listed = _json_object(files, "tokenizer_config.json", where).get("added_tokens_decoder", {})
        for id, token in listed.items():
            number = int(id) if str(id).isdigit() else id
            add(token.get("content"), number, bool(token.get("special")))
    if "added_tokens.json" in files:
        for content, id in _json_object(files, "added_tokens.json", where).items():
            add(content, id, content.startswith("<|") or content in ("<image>", "<video>"))
    if len({id for id, _ in found.values()}) < len(found):
        raise InputError(f"{where}: two added tokens share one id")
    return found


def with_control_tokens(files: Mapping[str, bytes], tokens: Mapping[str, int]) -> dict[str, bytes]:
    """The files with control tokens (content to id) listed wherever they list such tokens."""
    changed = dict(files)
    if not tokens:
        return changed
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    entries = {c: {"content": c, **flags, "special": True} for c in tokens}
    if "tokenizer.json" in files:
        described = _json_object(files, "tokenizer.json", "tokenizer")
        listed = described.setdefault("added_tokens", [])
        listed += [{"id": id, **entries[c]} for c, id in tokens.items()]
        listed.sort(key=lambda token: token["id"])
        changed["tokenizer.json"] = _json_bytes(described)
    if "tokenizer_config.json" in files:
        described = _json_object(files, "tokenizer_config.json", "tokenizer")
        if "added_tokens_decoder" in described or "tokenizer.json" not in files:
            decoder = described.setdefault("added_tokens_decoder", {})
            decoder |= {str(id): entries[c] for c, id in tokens.items()}
            changed["tokenizer_config.json"] = _json_bytes(described)
    if "added_tokens.json" in files:
        described = _json_object(files, "added_tokens.json", "tokenizer")
        changed["added_tokens.json"] = _json_bytes(described | dict(tokens))
    return changed


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _json_object(files: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(files[name])
    except ValueError as e:
        raise InputError(f"{where}/{name} is no JSON: {e}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}/{name} should be a JSON object")
    return value
