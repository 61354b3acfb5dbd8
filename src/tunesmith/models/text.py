"""Text to tokens: plain texts and chats, each with the span of characters behind every token.

Chats are rendered by the model's own template, once, for training and for use alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunesmith.contracts import Tokens
from tunesmith.errors import DataError, ModelError
from tunesmith.models.pieces import SlowBackend, backend_of
from tunesmith.models.tools import in_text

Message = Mapping[str, Any]


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the longest row it makes."""

    tokenizer: Any
    max_tokens: int
    start: int | None = None
    """Of an encoder-decoder: the token that its decoder begins with."""
    model_type: str = ""
    """Of an encoder-decoder: its family, which decides the words before a text."""
    context: int | None = None
    """Tokens that the model reads at most; None where that is `max_tokens`."""

    def __post_init__(self) -> None:
        backend = self.backend
        if backend is None or (isinstance(backend, SlowBackend) and self.start is None):
            raise ModelError(
                "the model's tokenizer gives no character offsets",
                where="model",
                hint="use a model folder with a `tokenizer.json`",
            )
        # A tokenizer.json may carry truncation and padding of its own (MiniLM's cuts at 128): ours is counted.
        backend.no_truncation()
        backend.no_padding()

    @property
    def limit(self) -> int:
        """Tokens that the model reads at most."""
        return self.context or self.max_tokens

    @property
    def backend(self) -> Any:
        """What turns texts into tokens."""
        return backend_of(self.tokenizer)

    @property
    def writer(self) -> Any:
        """What turns texts that are written into tokens, of an encoder-decoder."""
        return backend_of(self.tokenizer, written=True)

    @cached_property
    def marks(self) -> frozenset[str]:
        """Marks of languages to be written in the vocabulary, as Marian has them: `>>de<<`."""
        return frozenset(token for token in self.tokenizer.get_vocab() if token[:2] == ">>" and token[-2:] == "<<")

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {}

    def size_written(self, text: str) -> int:
        """Tokens of a text that is written, and its end; counted once."""
        if text not in self._sizes:
            self._sizes[text] = len(self.writer.encode(text, add_special_tokens=False).ids) + 1
        return self._sizes[text]

    def identity(self) -> str:
        """A sum of all that decides which tokens a text becomes."""
        said = [self.backend.to_str(), self.tokenizer.chat_template, self.max_tokens, self.start]
        said += [self.model_type, getattr(self.tokenizer, "src_lang", None)]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def text(self, text: str) -> Tokens:
        """A text with the model's special tokens around it, cut from its end when too long."""
        made = self.backend.encode(text)
        ids, offsets = made.ids, made.offsets
        over = len(ids) - self.max_tokens
        if over > 0:
            special = made.special_tokens_mask
            tail = next((k for k in range(len(ids)) if not special[-1 - k]), len(ids))
            keep = self.max_tokens - tail
            ids = ids[:keep] + ids[len(ids) - tail :]
            offsets = offsets[:keep] + offsets[len(offsets) - tail :]
        return Tokens(tuple(ids), cut=max(over, 0), text=text, offsets=tuple(offsets))

    def pair(self, first: str, second: str) -> Tokens:
        """Two texts as the model's own template joins them, with a line end between where it puts nothing there; tokens
        that do not fit are cut from the longer one."""
        made = self.backend.encode(first, second)
        owners = made.sequence_ids
        if 0 in owners and 1 in owners and owners.index(1) == len(owners) - owners[::-1].index(0):
            return self._lines(first, second)
        counts = [owners.count(0), owners.count(1)]
        over = max(len(made.ids) - self.max_tokens, 0)
        for _ in range(over):
            counts[counts[1] > counts[0]] -= 1
        seen, kept = [0, 0], []
        for k, owner in enumerate(owners):
            if owner is not None:
                seen[owner] += 1
            if owner is None or seen[owner] <= counts[owner]:
                kept.append(k)
        shift = len(first) + 1
        offsets = [made.offsets[k] for k in kept]
        moved = [(a + shift, b + shift) if owners[k] == 1 else (a, b) for k, (a, b) in zip(kept, offsets, strict=True)]
        return Tokens(
            tuple(made.ids[k] for k in kept),
            cut=over,
            types=self._types(made, kept),
            text=f"{first}\n{second}",
            offsets=tuple(moved),
        )

    def _lines(self, first: str, second: str) -> Tokens:
        """Two texts in two lines, as a decoder reads them."""
        parts = [self.backend.encode(text, add_special_tokens=False) for text in (first, "\n", second)]
        whole = self.backend.encode(first)
        before = next((k for k, owner in enumerate(whole.sequence_ids) if owner is not None), len(whole.ids))
        behind = len(whole.ids) - before - len(parts[0].ids)
        counts = [len(part.ids) for part in parts]
        over = max(before + sum(counts) + behind - self.max_tokens, 0)
        for _ in range(over):
            counts[2 if counts[2] > counts[0] else 0] -= 1
        starts = (0, len(first), len(first) + 1)
        ids = [*whole.ids[:before]]
        offsets = [(0, 0)] * before
        for part, count, start in zip(parts, counts, starts, strict=True):
            ids += part.ids[:count]
            offsets += [(start + a, start + b) for a, b in part.offsets[:count]]
        ids += whole.ids[len(whole.ids) - behind :]
        offsets += [(0, 0)] * behind
        return Tokens(tuple(ids), cut=over, text=f"{first}\n{second}", offsets=tuple(offsets))

    def windows(self, body: str, before: str | None = None, stride: int = 64) -> list[Tokens]:
        """A text in as many pieces as the model's context asks for, each with the same text before it, if any.

        `stride` is how many tokens two neighbours share. Offsets are of `body`; `trained` says which tokens are its.
        Raises DataError when what stands before leaves no room.
        """
        backend = self.backend
        made = backend.encode(body) if before is None else backend.encode(before, body)
        mine = [owner == (0 if before is None else 1) for owner in made.sequence_ids]
        first = mine.index(True) if any(mine) else len(mine)
        after = len(mine) - mine[::-1].index(True) if any(mine) else len(mine)
        room = self.max_tokens - first - (len(mine) - after)
        if room < 1 or (room < after - first and room <= stride):
            raise DataError(
                f"what stands before the text takes {first} of the {self.max_tokens} tokens that the model reads: "
                "too few are left",
                hint="shorten it, or raise `data.max_tokens` if it can be",
            )
        starts = [first]
        while starts[-1] + room < after:
            starts.append(starts[-1] + room - stride)
        return [self._window(made, body, first, after, start, min(start + room, after)) for start in starts]

    def _types(self, made: Any, kept: Sequence[int]) -> tuple[int, ...]:
        """Token types, where the tokenizer gives them to whoever else calls it."""
        types = tuple(made.type_ids[k] for k in kept)
        return types if any(types) and "token_type_ids" in self.tokenizer.model_input_names else ()

    def _window(self, made: Any, body: str, first: int, after: int, start: int, stop: int) -> Tokens:
        kept = [*range(first), *range(start, stop), *range(after, len(made.ids))]
        return Tokens(
            tuple(made.ids[k] for k in kept),
            trained=tuple(start <= k < stop for k in kept),
            types=self._types(made, kept),
            text=body,
            offsets=tuple(made.offsets[k] if start <= k < stop else (0, 0) for k in kept),
        )

    def chat(
        self, messages: Sequence[Message], learned: Sequence[bool] | None = None, tools: Sequence[Any] = ()
    ) -> Tokens:
        """A whole conversation; trained is what the assistant says, with the end of its turn, or what `learned` says
        of each message.

        A turn's span is from the end of what the template renders before it (with the mark that it is the
        assistant's turn) to the end of what it renders with it. That the one begins with the other is checked.
        Raises DataError when the template breaks this.
        """
        whole = self.render(messages, tools)
        wanted = learned if learned is not None else [message["role"] == "assistant" for message in messages]
        spans = []
        for k, message in enumerate(messages):
            if not wanted[k]:
                continue
            mine = message["role"] == "assistant"
            before = self.render(messages[:k], tools, answer_next=mine) if k or mine else ""
            through = self.render(messages[: k + 1], tools)
            if not (through.startswith(before) and whole.startswith(through)):
                raise DataError(
                    "the model's chat template renders a turn differently when more turns follow",
                    hint="use conversations with one assistant turn, or a model with a plain template",
                )
            spans.append((len(before), len(through)))
        return self._trained(whole, spans, special=False)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> Tokens:
        """What stands before the assistant's next turn. Raises DataError when it leaves no room for an answer."""
        text = self.render(messages, tools, answer_next=True)
        made = self.backend.encode(text, add_special_tokens=False)
        if len(made.ids) >= self.max_tokens:
            raise DataError(
                f"the conversation has {len(made.ids)} tokens and the model reads {self.max_tokens}: "
                "no room is left for an answer",
                hint="shorten it",
            )
        return Tokens(tuple(made.ids), text=text, offsets=tuple(made.offsets))

    def exchange(self, asked: str, answer: str) -> Tokens:
        """One question and its answer, which is trained with the end of the turn; without a chat template, the two
        with a line end between them and the end of text behind."""
        if self.tokenizer.chat_template is not None:
            return self.chat([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}])
        before, whole = f"{asked}\n", f"{asked}\n{answer}{self.tokenizer.eos_token or ''}"
        return self._trained(whole, [(len(before), len(whole))], special=True)

    def asked(self, asked: str) -> Tokens:
        """One question, up to where its answer begins; not cut."""
        if self.tokenizer.chat_template is not None:
            text, special = self.render([{"role": "user", "content": asked}], answer_next=True), False
        else:
            text, special = f"{asked}\n", True
        made = self.backend.encode(text, add_special_tokens=special)
        return Tokens(tuple(made.ids), text=text, offsets=tuple(made.offsets))

    def _trained(self, text: str, spans: Sequence[tuple[int, int]], *, special: bool) -> Tokens:
        """A text of which some spans of characters are trained, cut at its end."""
        made = self.backend.encode(text, add_special_tokens=special)
        trained = _inside(made.offsets, spans)
        kept = self.max_tokens
        return Tokens(
            tuple(made.ids[:kept]),
            trained=tuple(trained[:kept]),
            cut=max(len(made.ids) - kept, 0),
            lost=sum(trained[kept:]),
            text=text,
            offsets=tuple(made.offsets[:kept]),
        )

    def render(self, messages: Sequence[Message], tools: Sequence[Any] = (), *, answer_next: bool = False) -> str:
        """The conversation as the model's template writes it; tools and calls in the text where the template knows
        nothing of them. Raises DataError with the template's own words."""
        from tunesmith.models.template import refuse_vast

        template = self.tokenizer.chat_template
        if template is None:
            raise ModelError(
                "the model has no chat template",
                where="model",
                hint="take an instruction-tuned model such as `smollm2-135m`",
            )
        native = "tools" in str(template)
        shown = [dict(message) for message in messages] if native else in_text(messages, tools)
        for message in shown:
            message.pop("train", None)
        given = list(tools) or None
        values = {"messages": shown, "tools": given, "documents": None, "add_generation_prompt": answer_next}
        refuse_vast(self._template(given), {**self.tokenizer.special_tokens_map, **values})
        text: str = self.tokenizer.apply_chat_template(
            shown, tools=given, tokenize=False, add_generation_prompt=answer_next
        )
        return text

    def _template(self, tools: list[Any] | None) -> str:
        try:
            found: str = self.tokenizer.get_chat_template(None, tools)
        except ValueError as fault:
            raise ModelError(str(fault).split("!")[0], where="model") from None
        return found

    def document(self, text: str) -> list[Tokens]:
        """A text with the end of text behind, in pieces of the model's context; each begins with the last token of the
        one before, so that every token but the first is predicted once."""
        made = self.backend.encode(text)
        ids, offsets = list(made.ids), list(made.offsets)
        end = self.tokenizer.eos_token_id
        if end is not None and (not ids or ids[-1] != end):
            ids, offsets = [*ids, end], [*offsets, (len(text), len(text))]
        step = self.max_tokens - 1
        starts = range(0, max(len(ids) - 1, 1), step)
        return [
            Tokens(
                tuple(ids[at : at + step + 1]),
                trained=(True,) * len(ids[at : at + step + 1]),
                text=text,
                offsets=tuple(offsets[at : at + step + 1]),
            )
            for at in starts
        ]

    def opening(self, text: str, room: int) -> Tokens:
        """The end of a text that is to be continued, with room left."""
        ids = self.backend.encode(text).ids
        return Tokens(tuple(ids[-max(self.max_tokens - room, 1) :]), text=text)

    def special(self) -> frozenset[int]:
        """Ids of the tokens that stand for no text."""
        return frozenset(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}

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
