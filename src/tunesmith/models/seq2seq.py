"""Encoder-decoders: what the encoder reads, what the decoder learns to write, and its states.

A source is a text with the words before it that a family was trained with; a target is the decoder's start, then the
tokens it writes. Where the tokenizer knows languages (mBART, NLLB, M2M100), both are told theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.contracts import Tokens
from tunesmith.data.languages import LANGUAGES
from tunesmith.errors import DataError, RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from tunesmith.models.model import Model
    from tunesmith.models.text import TextEncoder


@dataclass(frozen=True)
class Told:
    """What an encoder-decoder is to do with a text."""

    task: str = ""
    """`translate`, `summarize`, or nothing that a family has words for."""
    source: str = ""
    """Code of the language read."""
    target: str = ""
    """Code of the language written."""


def prefix(text: TextEncoder, told: Told) -> str:
    """The words before a text: T5's for its tasks, or the mark of the language to be written (`>>de<<`)."""
    if text.model_type in ("t5", "mt5"):
        if told.task == "summarize":
            return "summarize: "
        if told.task == "translate" and told.source and told.target:
            names = [LANGUAGES.get(code, code) for code in (told.source, told.target)]
            return f"translate {names[0]} to {names[1]}: "
    mark = f">>{told.target}<<"
    return f"{mark} " if told.target and mark in text.marks else ""


def source_tokens(text: TextEncoder, words: str, told: Told) -> Tokens:
    """What the encoder reads of a text, cut at its end. Raises DataError for a language that the model lacks."""
    _check_mark(text, told)
    return _framed(text, prefix(text, told) + words, "src", told.source)


def target_tokens(text: TextEncoder, words: str, told: Told) -> Tokens:
    """The decoder's start, then what it learns to write, which is all of it trained; cut at its end."""
    made = _framed(text, words, "tgt", told.target, start=text.start)
    return Tokens(
        made.ids,
        trained=(False, *(True,) * (len(made.ids) - 1)),
        cut=made.cut,
        lost=made.cut,
        text=made.text,
        offsets=made.offsets,
    )


def forced_start(text: TextEncoder, told: Told) -> int | None:
    """The first token that a model of several languages is made to write: that of the target's."""
    before, _ = _frame(text, "tgt", told.target) if _speaks(text) and told.target else ([], [])
    return before[0] if before else None


def speak(model: Model, told: Told) -> None:
    """Have whoever opens the saved folder read and write the languages that were learned. Raises RecipeError for a
    language that the model does not know."""
    tokenizer: Any = model.text.tokenizer
    asked = {"src_lang": told.source, "tgt_lang": told.target} if _speaks(model.text) else {}
    try:
        if told.target:
            _check_mark(model.text, told)
        codes = {name: language_of(tokenizer, language) for name, language in asked.items() if language}
    except DataError as fault:
        where = "task.source_language, task.target_language"
        raise RecipeError(fault.problem, where=where, hint=fault.hint) from None
    if len(codes) < 2:
        return
    for name, code in codes.items():
        setattr(tokenizer, name, code)
        tokenizer.init_kwargs[name] = code
    net: Any = model.net
    net.generation_config.forced_bos_token_id = forced_start(model.text, told)
    tokenizer.set_src_lang_special_tokens(tokenizer.src_lang)


def _check_mark(text: TextEncoder, told: Told) -> None:
    """Raise DataError where a translator of several languages is not told one of them."""
    if told.task != "translate" or not text.marks or f">>{told.target}<<" in text.marks:
        return
    if not told.target and len(text.marks) == 1:
        return
    few = ", ".join(f"`{mark[2:-2]}`" for mark in sorted(text.marks)[:8])
    lacks = f"`{told.target}` is none of them" if told.target else "is not told which"
    raise DataError(
        f"the model writes several languages, and {lacks}",
        hint=f"say `target_language`, in the row or as an option of the task; it has {few}",
    )


def _framed(text: TextEncoder, words: str, side: str, language: str, start: int | None = None) -> Tokens:
    """Tokens with the special ones around them that the family puts there; `start` stands before all."""
    backend = text.writer if side == "tgt" else text.backend
    if _speaks(text):
        before, behind = _frame(text, side, language)
        made = backend.encode(words, add_special_tokens=False)
    else:
        made = backend.encode(words)
        before, behind = [], []
    ids, offsets = [*before, *made.ids], [(0, 0)] * len(before) + list(made.offsets)
    if not behind and made.special_tokens_mask and made.special_tokens_mask[-1]:
        behind, ids, offsets = ids[-1:], ids[:-1], offsets[:-1]
    if start is not None:
        ids, offsets = ids[ids[:1] == [start] :], offsets[ids[:1] == [start] :]
        ids, offsets = [start, *ids], [(0, 0), *offsets]
    room = text.max_tokens - len(behind)
    cut = max(len(ids) - room, 0)
    ends = [(len(words), len(words))] * len(behind)
    return Tokens((*ids[:room], *behind), cut=cut, text=words, offsets=(*offsets[:room], *ends))


def _speaks(text: TextEncoder) -> bool:
    """Whether the tokenizer puts a language's token around texts."""
    return hasattr(text.tokenizer, "set_tgt_lang_special_tokens")


def _frame(text: TextEncoder, side: str, language: str) -> tuple[list[int], list[int]]:
    """Special tokens before and behind a text of a language, or of the one that the tokenizer was saved with. Raises
    DataError for one that it lacks."""
    tokenizer: Any = text.tokenizer
    usual = getattr(tokenizer, "tgt_lang", None) if side == "tgt" else None
    code = language_of(tokenizer, language) if language else usual or tokenizer.src_lang
    if side == "src":
        tokenizer.set_src_lang_special_tokens(code)
    else:
        tokenizer.set_tgt_lang_special_tokens(code)
    return list(tokenizer.prefix_tokens), list(tokenizer.suffix_tokens)


def language_of(tokenizer: Any, language: str) -> str:
    """The tokenizer's own code for a language: `de` is mBART's `de_DE`. Raises DataError where it has none."""
    extra = tokenizer.extra_special_tokens if hasattr(tokenizer, "extra_special_tokens") else []
    codes = {str(token) for token in [*tokenizer.all_special_tokens, *extra]}
    codes |= {str(token) for token in getattr(tokenizer, "additional_special_tokens", ())}
    codes = set(getattr(tokenizer, "lang_code_to_token", codes))  # M2M100's: `de`, whose token is `__de__`
    if language in codes:
        return language
    begun = sorted(code for code in codes if code.partition("_")[0] == language)
    few = ", ".join(f"`{code}`" for code in sorted(code for code in codes if "<" not in code)[:5])
    if len(begun) == 1:
        return begun[0]
    raise DataError(
        f"the model's tokenizer has no language `{language}`",
        hint=f"take one of its own codes, such as {few}",
    )


def answer_states(model: Model, sources: Sequence[Tokens], targets: Sequence[Tokens], positions: Tensor) -> Tensor:
    """The decoder's last states [positions, width], at positions of the targets laid end to end, ready for
    `output_layer`."""
    net: Any = model.net
    model.lend_matmul()
    ids, mask = model.padded(sources)
    written, there = model.padded_bare(targets)
    kind = model.config.model_type
    if kind in ("t5", "mt5", "encoder-decoder"):
        read = net.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if hasattr(net, "enc_to_dec_proj"):
            read = net.enc_to_dec_proj(read)
        half: Any = net.decoder if kind != "encoder-decoder" else getattr(net.decoder, net.decoder.base_model_prefix)
        states = half(
            input_ids=written,
            attention_mask=there,
            encoder_hidden_states=read,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
    else:
        states = net.model(
            input_ids=ids,
            attention_mask=mask,
            decoder_input_ids=written,
            decoder_attention_mask=there,
            use_cache=False,
        ).last_hidden_state
    if getattr(net.config, "scale_decoder_outputs", False):  # T5's
        states = states * net.model_dim**-0.5
    found: Tensor = states[there.bool()][positions.to(states.device)]
    if kind == "encoder-decoder":  # the first half of a BERT's output layer
        found = net.decoder.cls.predictions.transform(found)
    return found
