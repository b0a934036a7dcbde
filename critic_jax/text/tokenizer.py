"""The tokenizer of a chat: text to ids in which no text can spell a control token."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from critic_jax.errors import InputError
from critic_jax.text.tokenizer_files import (
    added_tokens,
    bare_tokenizer,
    read_kept_files,
    with_control_tokens,
)
from critic_jax.text.turns import MARKER


class ChatTokenizer:
    """Byte-level BPE plus the ids of the control tokens, which only `encode_chat` places.

    Attributes, all ids: `im_start`, `im_end` (the marks of a turn), `end_of_text`, `image` (each
    position of a picture), `newline`; `stop_ids` end a generation; `vocab_size` is one more than
    the largest id, V or less.

    A folder without `<image>` (the first 0.5B upload; plain Qwen2-Instruct) gets it as the id after
    its last one, 151646 with Qwen2's vocabulary, which is also what LLaVA-OneVision's config names.
    """

    def __init__(
        self,
        bare: Tokenizer,
        added: Mapping[str, tuple[int, bool]],
        files: Mapping[str, bytes],
        where: str = "tokenizer",
    ) -> None:
        """bare: the BPE alone; added: the other tokens' (id, special); files: what `save` writes.

        Raises InputError when a control token is missing, or when some text would encode to one.
        """
        self._bare = bare
        self._files = dict(files)
        ids = {content: id for content, (id, _) in added.items()}
        for needed in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
            if needed not in ids:
                raise InputError(f"{where} has no token {needed}; a ChatML tokenizer has")
        last = max(*bare.get_vocab().values(), *ids.values())
        ids.setdefault(MARKER, last + 1)
        self._ids = ids
        self.im_start = ids["<|im_start|>"]
        self.im_end = ids["<|im_end|>"]
        self.end_of_text = ids["<|endoftext|>"]
        self.image = ids[MARKER]
        self.stop_ids: tuple[int, ...] = (self.im_end, self.end_of_text)
        self.vocab_size = max(last, self.image) + 1
        # Added tokens that are ordinary text, such as <tool_call>: never encoded to, but shown.
        self._shown = {id: content for content, (id, special) in added.items() if not special}
        self._shown.pop(self.image, None)
        for content in ids:
            if set(ids.values()) & set(self.encode(content)):
                raise InputError(f"{where}: the text {content} would encode to a control token")
        newline = self.encode("\n")
        if len(newline) != 1:
            raise InputError(f"{where}: a newline is {len(newline)} tokens; it should be one")
        self.newline = newline[0]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ChatTokenizer:
        """Read tokenizer.json, or Qwen2's vocab.json and merges.txt, with the tokens added to it.

        Raises InputError when the folder holds neither, or a file is damaged.
        """
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path} is no folder; a tokenizer's folder was expected")
        files = read_kept_files(path)
        where = str(path)
        return cls(bare_tokenizer(files, where), added_tokens(files, where), files, where)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write what `load` reads; the files of a loaded tokenizer come out byte for byte."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            (path / name).write_bytes(content)

    @property
    def files(self) -> dict[str, bytes]:
        """What `save` writes, by name."""
        return dict(self._files)

    def added(self, content: str) -> int | None:
        """The id of an added token, if there is such a one."""
        return self._ids.get(content)

    def files_with(self, tokens: Mapping[str, int], rows: int) -> dict[str, bytes]:
        """The files with further control tokens added, of those whose id is below `rows`."""
        known = added_tokens(self._files, "tokenizer")
        new = {c: id for c, id in tokens.items() if c not in known and id < rows}
        return with_control_tokens(self._files, new)

    def digest(self) -> str:
        """Equal for tokenizers that turn every text and chat into the same ids, and back."""
        control = [self.im_start, self.im_end, self.end_of_text, self.image]
        shown = sorted(self._shown.items())
        described = json.dumps([json.loads(self._bare.to_str()), control, shown], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """The ids of a text; `<|im_end|>`, `<image>` and their like in it are characters."""
        return self.encode_with_starts(text)[0]

    def encode_with_starts(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text, and for each the index of the first character it belongs to.

        Raises InputError for half of a surrogate pair, which is no character.
        """
        try:
            encoding = self._bare.encode(text, add_special_tokens=False)
        except TypeError:  # what the library says of half a surrogate pair
            half = next((letter for letter in text if "\ud800" <= letter <= "\udfff"), None)
            if half is None:
                raise
            raise InputError(f"a text holds {half!r}, half of a surrogate pair") from None
        return encoding.ids, [start for start, _ in encoding.offsets]

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The text of each id alone, [V]; "" for control tokens. Half a letter shows as U+FFFD."""
        return tuple(self.decode([id]) for id in range(self.vocab_size))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids; control tokens and ids without a token give nothing."""
        text: list[str] = []
        run: list[int] = []
        for id in ids:
            if id in self._shown:
                text += [self._bare.decode(run), self._shown[id]]
                run = []
            elif self._bare.id_to_token(id) is not None:
                run.append(id)
        return "".join([*text, self._bare.decode(run)])
