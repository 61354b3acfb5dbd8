"""Tokenizers that Transformers runs in Python over SentencePiece files (Marian's, M2M100's), as the library tokenizers
would answer: ids with the characters behind each.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pieces:
    """What is read here of an Encoding of the library tokenizers."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]


@dataclass(frozen=True)
class SlowBackend:
    """A tokenizer without a `backend_tokenizer`, seen as one. The ids are the tokenizer's own."""

    tokenizer: Any
    written: bool = False
    """Whether texts are of the side that is written, for which Marian has pieces of its own."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Pieces:
        """Ids of a text, with the special ones around it."""
        asked = {"text_target": text} if self._apart else {"text": text}
        ids = list(self.tokenizer(**asked, add_special_tokens=False, verbose=False).input_ids)
        offsets = self._offsets(text, len(ids))
        if not add_special_tokens:
            return Pieces(ids, offsets, [0] * len(ids))
        before = list(getattr(self.tokenizer, "prefix_tokens", ()))
        behind = list(getattr(self.tokenizer, "suffix_tokens", ())) or [self.tokenizer.eos_token_id]
        return Pieces(
            [*before, *ids, *behind],
            [*[(0, 0)] * len(before), *offsets, *[(len(text), len(text))] * len(behind)],
            [*[1] * len(before), *[0] * len(ids), *[1] * len(behind)],
        )

    @property
    def _apart(self) -> bool:
        return self.written and hasattr(self.tokenizer, "spm_target")

    def _offsets(self, text: str, count: int) -> list[tuple[int, int]]:
        """The span of each piece. A text that names special tokens is not SentencePiece's alone: it is shared out
        evenly among its tokens."""
        start = 0
        if hasattr(self.tokenizer, "remove_language_code"):
            start = len(text) - len(self.tokenizer.remove_language_code(text)[1])
        found = self._model().encode(text[start:], return_type="offset_mapping")["offsets"]
        marks = count - len(found)
        if marks != (start > 0):
            return [(len(text) * k // count, len(text) * (k + 1) // count) for k in range(count)]
        return [(0, start)] * marks + [(start + a, start + b) for a, b in found]

    def _model(self) -> Any:
        if hasattr(self.tokenizer, "spm_source"):
            return self.tokenizer.spm_target if self._apart else self.tokenizer.spm_source
        return self.tokenizer.sp_model

    def to_str(self) -> str:
        """A sum of the files that it reads."""
        names = ("spm_source", "spm_target", "sp_model")
        digest = hashlib.sha256(json.dumps(self.tokenizer.get_vocab(), sort_keys=True).encode())
        for model in (getattr(self.tokenizer, name, None) for name in names):
            digest.update(model.serialized_model_proto() if model is not None else b"")
        return digest.hexdigest()

    def no_truncation(self) -> None:
        """It never cuts."""

    def no_padding(self) -> None:
        """It never pads."""


def backend_of(tokenizer: Any, *, written: bool = False) -> Any:
    """What turns texts into tokens; None where nothing can that tells the characters behind them."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        return fast
    if hasattr(tokenizer, "sp_model") or hasattr(tokenizer, "spm_source"):
        return SlowBackend(tokenizer, written)
    return None
