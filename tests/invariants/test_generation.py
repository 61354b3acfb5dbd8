"""Answers are those of Transformers' own loop, one prompt at a time, however prompts are batched."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.contracts import Tokens
from tunesmith.models import anatomy, catalog, decode, generate, load
from tunesmith.models.staged import Staged
from tunesmith.recipe import ModelChoice

KINDS = [name for name, parts in anatomy.TABLE.items() if parts.family == "decoder"]


def ready(folder: Path) -> tuple[Any, list[Tokens]]:
    model = load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x"), None)
    generator = torch.Generator().manual_seed(4)
    head = tuple(range(5, 19))
    lengths = (1, 9, 4, 17, 9, 2, 30)
    drawn = [tuple(torch.randint(5, 90, (n,), generator=generator).tolist()) for n in lengths]
    return model, [Tokens((*(head if k % 2 else ()), *ids)) for k, ids in enumerate(drawn)]


def alone(folder: Path, prompt: Tokens, room: int, stops: list[int]) -> list[int]:
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.tensor([prompt.ids])
    out = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, do_sample=False,
                       eos_token_id=stops, pad_token_id=0)  # fmt: skip
    return [int(i) for i in out[0, len(prompt.ids) :]]


def said(model: Any, prompts: list[Tokens], room: int, stops: list[int]) -> list[tuple[str, bool, int]]:
    return [(g.text, g.ended, g.tokens) for g in generate.answers(model, prompts, room, stops)]


@pytest.mark.parametrize(("kind", "stock"), [*((kind, False) for kind in KINDS), ("gpt2", True), ("gemma2", True)])
def test_answers_are_those_of_the_stock_loop_one_at_a_time(
    kind: str, stock: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own loop, and by the stock one in batches, which runs what is unusual."""
    folder = tiny.make_decoder(tmp_path / kind, kind)
    model, prompts = ready(folder)
    model.stock = stock
    assert isinstance(model.body(), Staged) is not stock
    monkeypatch.setattr(decode, "ROWS", 3)  # prompts wait, and are taken in as others end
    monkeypatch.setattr(decode, "_GROWTH", 2)
    free = [alone(folder, prompt, 20, [1]) for prompt in prompts]
    # A token that answers reach at different steps, some never: the more steps, the better.
    tokens = sorted({i for ids in free for i in ids})
    stop = max(tokens, key=lambda i: len({ids.index(i) if i in ids else len(ids) for ids in free}))
    stops = sorted({1, stop})
    wanted = [alone(folder, prompt, 20, stops) for prompt in prompts]
    assert kind == "gpt2" or len({len(ids) for ids in wanted}) > 1
    made = generate.answers(model, prompts, 20, stops)
    for ids, found in zip(wanted, made, strict=True):
        ended = ids[-1] in stops
        kept = ids[:-1] if ended else ids
        assert (found.text, found.ended, found.tokens) == (model.text.decode(kept).strip(), ended, len(kept))


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_window_is_honoured_while_writing(kind: str, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = tiny.make_decoder(tmp_path / kind, kind)
    if kind == "mistral":
        AutoConfig.from_pretrained(folder, sliding_window=5).save_pretrained(folder)
    model, prompts = ready(folder)
    written = [alone(folder, prompt, 12, [399]) for prompt in prompts]
    wanted = [model.text.decode([i for i in ids if i != 399]).strip() for ids in written]
    assert [text for text, _, _ in said(model, prompts, 12, [399])] == wanted


def test_an_answer_does_not_depend_on_what_is_written_beside_it(decoder: Path) -> None:
    model, prompts = ready(decoder)
    together = said(model, prompts, 16, [1])
    assert [said(model, [prompt], 16, [1])[0] for prompt in prompts] == together
    assert said(model, prompts[::-1], 16, [1]) == together[::-1]


def test_an_answer_ends_where_the_context_does(tmp_path: Path) -> None:
    model, prompts = ready(tiny.make_decoder(tmp_path / "short", "llama", 48))
    for prompt, found in zip(prompts, generate.answers(model, prompts, 500, [399]), strict=True):
        assert found.tokens == 48 - len(prompt.ids) and not found.ended
