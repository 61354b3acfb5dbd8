"""Conversations: the assistant's turns are learned, and written in use.

Rows come as `messages`, as `prompt` and `completion`, or as `instruction`, `input` and `output`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunesmith.contracts import (
    Answer,
    Column,
    Example,
    Loss,
    Metric,
    Purpose,
    Reader,
    Row,
    Sums,
    Task,
    Tokens,
    Vector,
)
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.models.catalog import Source
    from tunesmith.models.model import Model
    from tunesmith.recipe import Recipe

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Chat(Task):
    """The assistant's turns of conversations, by a decoder with a chat template."""

    columns: ClassVar[Mapping[str, Column]] = {
        "messages": Column("a list of {role, content}", required=False, names=("conversation", "chat")),
        "prompt": Column("a text", required=False),
        "completion": Column("a text", required=False, names=("response",), target=True),
        "instruction": Column("a text", required=False),
        "input": Column("a text, may be empty", required=False),
        "output": Column("a text", required=False, target=True),
    }
    headline: ClassVar[Metric] = Metric("mean_token_loss", higher_is_better=False)
    validation_metric: ClassVar[str] = "mean_token_loss"
    families: ClassVar[tuple[str, ...]] = ("decoder",)

    max_new_tokens: int | None = None
    """Longest answer in tokens. None takes it from the data: 1.2 times the 99th percentile, at least 16."""

    longest_answer: int = field(default=0, metadata={"option": False})
    """Characters of the 99th percentile of the answers in training."""

    def check_row(self, values: Mapping[str, Any], purpose: Purpose) -> str | None:
        """Roles must be known and in an order that has something to learn; the last turn is the assistant's."""
        messages = _messages(values)
        return messages if isinstance(messages, str) else _order(messages, learn=purpose == "learn")

    def normalize(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """One form for all: `messages`."""
        messages = _messages(values)
        assert not isinstance(messages, str)
        return {"messages": messages}

    def learn(self, rows: Iterable[Row]) -> Chat:
        """How long answers are."""
        lengths = [len(m["content"]) for row in rows for m in row["messages"] if m["role"] == "assistant"]
        return replace(self, longest_answer=int(np.percentile(lengths, 99)) if lengths else 0)

    def build(self, source: Source, options: Recipe, seed: int) -> Model:
        """The pretrained decoder as it is."""
        from tunesmith.models.load import load_causal_lm

        return load_causal_lm(source, options.model, options.data.max_tokens)

    def encode(self, row: Row, reader: Reader, purpose: Purpose) -> list[Example]:
        """To learn, the whole conversation; to answer, what stands before its last assistant turn.

        Raises DataError for a row of which no trained token survives the model's context.
        """
        messages = row["messages"]
        if purpose == "answer":
            asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
            return [Example(row.id, {"text": reader.text.prompt(asked)})]
        tokens = reader.text.chat(messages)
        if not any(tokens.trained):
            raise DataError(
                f"nothing of the row can be learned: all {tokens.lost} tokens of its answers lie beyond the "
                f"{reader.text.max_tokens} that are read",
                where=row.place,
                hint="shorten the conversation, raise `data.max_tokens`, or set `data.bad_rows: skip`",
            )
        return [Example(row.id, {"text": tokens})]

    def weights(self, examples: Sequence[Example]) -> dict[str, float]:
        """Every trained token counts once; a first token is never predicted."""
        return {"loss": float(sum(sum(example.parts["text"].trained[1:]) for example in examples))}

    def loss(self, model: Model, examples: Sequence[Example]) -> dict[str, Loss]:
        """Cross entropy of the assistant's tokens, summed."""
        losses, _ = _losses(model, examples)
        return {"loss": Loss(losses.sum(), float(len(losses)))}

    def assess(self, model: Model, examples: Sequence[Example]) -> list[dict[str, Vector]]:
        """The loss and the number of trained tokens of each row."""
        from tunesmith.models.loss import sum_by_row

        losses, counts = _losses(model, examples)
        return [
            {"loss": loss, "tokens": float(count)}
            for loss, count in zip(sum_by_row(losses, counts), counts, strict=True)
        ]

    def predict(self, model: Model, examples: Sequence[Example]) -> list[Any]:
        """A greedy answer per prompt."""
        from tunesmith.models import generate

        prompts: list[Tokens] = [example.parts["text"] for example in examples]
        return list(generate.answers(model, prompts, self.room(model), generate.stop_tokens(model)))

    def room(self, model: Model) -> int:
        """Tokens that an answer may take: the option, or 1.2 times what the data needs."""
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        per_token = 2.5  # characters a token holds at the least in running text; more tokens than needed are harmless
        return max(16, min(int(1.2 * self.longest_answer / per_token), model.text.max_tokens // 2))

    def decode(self, row: Row, outputs: Sequence[Any]) -> Answer:
        """The answer, and whether it ended by itself."""
        made = outputs[0]
        return {"answer": made.text, "ended": made.ended, "tokens": made.tokens}

    def measure(self, row: Row, answer: Answer) -> dict[str, Vector]:
        """Whether the answer is the reference to the letter, and whether it ended by itself."""
        reference = row["messages"][-1]["content"].strip()
        return {
            "answers": 1.0,
            "exact": float(answer["answer"].strip() == reference),
            "ended": float(answer["ended"]),
        }

    def reduce(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        """mean_token_loss and token_perplexity over trained tokens; exact_match and ended as shares of answers."""
        made: dict[str, NDArray[np.float64]] = {}
        if "loss" in sums:
            made["mean_token_loss"] = sums["loss"][..., 0] / sums["tokens"][..., 0]
            made["token_perplexity"] = np.exp(made["mean_token_loss"])
        if "answers" in sums:
            made["answer_exact_match"] = sums["exact"][..., 0] / sums["answers"][..., 0]
            made["answer_ended"] = sums["ended"][..., 0] / sums["answers"][..., 0]
        return made

    def base(self, model: Model, rows: Sequence[Row]) -> None:
        """Nothing: the untuned model chats already."""

    def baselines(self, train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Answer]]:
        """None: nothing cheap answers a conversation."""
        return {}


def _losses(model: Model, examples: Sequence[Example]) -> tuple[Any, list[int]]:
    from tunesmith.models.loss import label_losses, label_positions

    rows = [example.parts["text"] for example in examples]
    positions, labels, counts = label_positions(rows, model.device)
    return label_losses(model.states_at(rows, positions), model.output_layer, labels, model.matmul), counts


def _messages(values: Mapping[str, Any]) -> list[dict[str, str]] | str:
    """The row as messages, or in words why it has none."""
    if values.get("messages") is not None:
        return _checked(values["messages"])
    for asked, more, answered in (("prompt", None, "completion"), ("instruction", "input", "output")):
        if asked not in values:
            continue
        for name in (asked, answered):
            if name in values and (not isinstance(values[name], str) or not values[name].strip()):
                return f"`{name}` is empty" if isinstance(values[name], str) else f"`{name}` is not a text"
        extra = values.get(more) if more else None
        if extra is not None and not isinstance(extra, str):
            return f"`{more}` is not a text"
        question = f"{values[asked]}\n\n{extra}" if extra and extra.strip() else values[asked]
        made = [{"role": "user", "content": question}]
        if answered in values:
            made.append({"role": "assistant", "content": values[answered]})
        return made
    return "the row has neither `messages`, nor `prompt` and `completion`, nor `instruction` and `output`"


def _checked(messages: Any) -> list[dict[str, str]] | str:
    if not isinstance(messages, list) or not messages:
        return "`messages` is not a list with a message in it"
    made = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return f"message {number} is not {{role, content}} with a text"
        role = message.get("role")
        if role not in ROLES:
            return f"message {number} has the role {role!r}; roles are {', '.join(ROLES)}"
        if role == "assistant" and not message["content"].strip():
            return f"message {number}, the assistant's, is empty"
        made.append({"role": str(role), "content": message["content"]})
    return made


def _order(messages: Sequence[Mapping[str, str]], *, learn: bool) -> str | None:
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        return f"message {roles.index('system', 1) + 1} is a system message, which can only be the first"
    turns = [role for role in roles if role != "system"]
    if not turns:
        return "the conversation has only a system message"
    if turns[0] != "user":
        return f"the conversation begins with the {turns[0]}; it must begin with the user"
    twice = next((k for k in range(1, len(turns)) if turns[k] == turns[k - 1] and turns[k] != "tool"), None)
    if twice is not None:
        return f"two messages of the {turns[twice]} follow each other"
    if learn and turns[-1] != "assistant":
        return f"the conversation ends with the {turns[-1]}; there is no answer to learn from"
    return None


plugin = Chat
