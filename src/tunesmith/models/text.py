"""Text to tokens: plain texts and chats, each with the span of characters behind every token.

Chats are rendered by the model's own template, once, for training and for use alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.contracts import Tokens
from tunesmith.errors import DataError, ModelError

Message = Mapping[str, Any]


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the longest row it makes."""

    tokenizer: Any
    max_tokens: int

    def __post_init__(self) -> None:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                "the model's tokenizer gives no character offsets",
                where="model",
                hint="use a model folder with a `tokenizer.json`",
            )
        # A tokenizer.json may carry truncation and padding of its own (MiniLM's cuts at 128): ours is counted.
        backend.no_truncation()
        backend.no_padding()

    def identity(self) -> str:
        """A sum of all that decides which tokens a text becomes."""
        said = [self.tokenizer.backend_tokenizer.to_str(), self.tokenizer.chat_template, self.max_tokens]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def text(self, text: str) -> Tokens:
        """A text with the model's special tokens around it, cut from its end when too long."""
        made = self.tokenizer.backend_tokenizer.encode(text)
        ids, offsets = made.ids, made.offsets
        over = len(ids) - self.max_tokens
        if over > 0:
            special = made.special_tokens_mask
            tail = next((k for k in range(len(ids)) if not special[-1 - k]), len(ids))
            keep = self.max_tokens - tail
            ids = ids[:keep] + ids[len(ids) - tail :]
            offsets = offsets[:keep] + offsets[len(offsets) - tail :]
        return Tokens(tuple(ids), cut=max(over, 0), text=text, offsets=tuple(offsets))

    def chat(self, messages: Sequence[Message]) -> Tokens:
        """A whole conversation; trained is what the assistant says, with the end of its turn.

        A turn's span is from the end of what the template renders before it (with the mark that it is the
        assistant's turn) to the end of what it renders with it. That the one begins with the other is checked.
        Raises DataError when the template breaks this.
        """
        whole = self.render(messages)
        spans = []
        for k, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:k], answer_next=True)
            through = self.render(messages[: k + 1])
            if not (through.startswith(before) and whole.startswith(through)):
                raise DataError(
                    "the model's chat template renders a turn differently when more turns follow",
                    hint="use conversations with one assistant turn, or a model with a plain template",
                )
            spans.append((len(before), len(through)))
        made = self.tokenizer.backend_tokenizer.encode(whole, add_special_tokens=False)
        trained = _inside(made.offsets, spans)
        kept = self.max_tokens
        return Tokens(
            tuple(made.ids[:kept]),
            trained=tuple(trained[:kept]),
            cut=max(len(made.ids) - kept, 0),
            lost=sum(trained[kept:]),
            text=whole,
            offsets=tuple(made.offsets[:kept]),
        )

    def prompt(self, messages: Sequence[Message]) -> Tokens:
        """What stands before the assistant's next turn. Raises DataError when it leaves no room for an answer."""
        text = self.render(messages, answer_next=True)
        made = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        if len(made.ids) >= self.max_tokens:
            raise DataError(
                f"the conversation has {len(made.ids)} tokens and the model reads {self.max_tokens}: "
                "no room is left for an answer",
                hint="shorten it",
            )
        return Tokens(tuple(made.ids), text=text, offsets=tuple(made.offsets))

    def render(self, messages: Sequence[Message], *, answer_next: bool = False) -> str:
        """The conversation as the model's template writes it. Raises DataError with the template's own words."""
        from jinja2 import TemplateError

        if self.tokenizer.chat_template is None:
            raise ModelError(
                "the model has no chat template",
                where="model",
                hint="take an instruction-tuned model such as `smollm2-135m`",
            )
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=answer_next
            )
        except TemplateError as fault:
            raise DataError(f"the model's chat template refuses the conversation: {fault}") from None
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


def _inside(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """For each token whether it begins inside one of the spans; both are in order."""
    made, at = [], 0
    for start, end in offsets:
        while at < len(spans) and start >= spans[at][1]:
            at += 1
        made.append(at < len(spans) and start >= spans[at][0] and end > start)
    return made
