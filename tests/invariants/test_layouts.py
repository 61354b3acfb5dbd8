"""Sequences end to end without padding give what the stock class gives for each alone."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from tunesmith.contracts import Tokens
from tunesmith.models import anatomy, catalog, load
from tunesmith.recipe import ModelChoice

ENCODERS = [name for name, parts in anatomy.TABLE.items() if parts.family == "encoder"]
DECODERS = [name for name, parts in anatomy.TABLE.items() if parts.family == "decoder"]
LENGTHS = (11, 23, 17, 17, 3)


def rows(seed: int = 5) -> list[Tokens]:
    generator = torch.Generator().manual_seed(seed)
    made = [tuple(torch.randint(5, 90, (n,), generator=generator).tolist()) for n in LENGTHS]
    return [Tokens(ids, trained=(False, *[True] * (len(ids) - 1))) for ids in made]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    made = {kind: tiny.make_encoder(root / kind, kind) for kind in ENCODERS}
    return made | {kind: tiny.make_decoder(root / kind, kind, 64) for kind in DECODERS}


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_the_table_finds_every_block_of_the_config(kind: str, folders: dict[str, Path]) -> None:
    source = catalog.find(str(folders[kind]))
    choice = ModelChoice(name=str(folders[kind]))
    model = load.load_classifier(source, choice, ("a", "b"), None, 0)
    parts = anatomy.TABLE[kind]
    assert len(anatomy.blocks(model.base, parts)) == getattr(model.config, parts.depth) == 2
    assert len(list(anatomy.linear_layers(model.base, parts))) >= 2 * 4
    assert all(hasattr(model.base, name) for name in parts.after if name != "pooler")


@pytest.mark.parametrize("kind", ENCODERS)
@torch.no_grad()
def test_states_of_an_encoder_equal_the_stock_class_one_row_at_a_time(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoModel

    model = load.load_classifier(catalog.find(str(folders[kind])), ModelChoice(name="x"), ("a", "b"), None, 0)
    stock = AutoModel.from_pretrained(folders[kind], attn_implementation="eager").eval()
    states, lengths = model.states(rows())
    assert lengths.tolist() == list(LENGTHS)
    alone = [stock(input_ids=torch.tensor([row.ids])).last_hidden_state[0] for row in rows()]
    assert float(alone[0].abs().max()) > 0.5
    assert torch.allclose(states, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_label_logits_of_a_decoder_equal_the_stock_class_one_row_at_a_time(kind: str, folders: dict[str, Path]) -> None:
    from transformers import AutoModelForCausalLM

    model = load.load_causal_lm(catalog.find(str(folders[kind])), ModelChoice(name="x"), None)
    stock = AutoModelForCausalLM.from_pretrained(folders[kind], attn_implementation="eager").eval()
    positions = torch.tensor([0, 10, 11, 33, 34, 50, 67, 70])
    logits = model.label_logits(rows(), positions)
    alone = torch.cat([stock(input_ids=torch.tensor([row.ids])).logits[0] for row in rows()])
    assert float(alone.std()) > 0.1
    assert torch.allclose(logits, alone[positions], atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
@torch.no_grad()
def test_logits_of_the_stock_head_equal_the_stock_classifier(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    choice = ModelChoice(name="x", pooling="cls")
    model = load.load_classifier(catalog.find(str(folders[kind])), choice, ("a", "b", "c"), None, 0)
    tiny.redraw(model.net, 7)
    model.net.save_pretrained(tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    alone = torch.cat([stock(input_ids=torch.tensor([row.ids])).logits for row in rows()])
    assert torch.allclose(model.class_logits(rows()), alone, atol=1e-5)


@torch.no_grad()
def test_logits_of_a_decoder_are_those_that_the_stock_class_reads_from_its_last_token(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Whichever side others pad on: each row alone, and all of them padded on the left and on the right."""
    from transformers import AutoModelForSequenceClassification

    model = load.load_classifier(catalog.find(str(folders["llama"])), ModelChoice(name="x"), ("a", "b", "c"), None, 0)
    tiny.redraw(model.net, 7)
    model.net.save_pretrained(tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager").eval()
    mine = model.class_logits(rows())
    assert torch.allclose(
        mine, torch.cat([stock(input_ids=torch.tensor([row.ids])).logits for row in rows()]), atol=1e-5
    )
    pad, longest = stock.config.pad_token_id, max(LENGTHS)
    assert pad is not None and not any(pad in row.ids for row in rows())
    for side in (slice(None), slice(None, None, -1)):
        parts = [[[pad] * (longest - len(row.ids)), list(row.ids)][side] for row in rows()]
        masks = [[[0] * len(fill), [1] * len(ids)][side] for fill, ids in ([p[side] for p in parts])]
        ids, mask = (torch.tensor([a + b for a, b in listed]) for listed in (parts, masks))
        places = (mask.cumsum(1) - 1).clamp(min=0)
        assert torch.allclose(stock(ids, mask, position_ids=places).logits, mine, atol=1e-5)


@pytest.mark.parametrize(("kind", "stock"), [("bert", False), ("llama", False), ("gemma2", False), ("gpt2", True)])
def test_another_sequence_in_the_stream_moves_nothing_not_even_in_train_mode(
    kind: str, stock: bool, folders: dict[str, Path]
) -> None:
    choice = ModelChoice(name="x", dropout=0.0)
    model = load.load_classifier(catalog.find(str(folders[kind])), choice, ("a", "b"), None, 0)
    model.stock = stock
    model.net.train()
    first, *others = rows()
    changed = Tokens(tuple(5 + (i + 1) % 80 for i in first.ids))
    with torch.no_grad():
        before, _ = model.states([first, *others])
        after, _ = model.states([changed, *others])
    n = len(first.ids)
    assert not torch.equal(before[:n], after[:n])
    assert torch.equal(before[n:], after[n:])


@torch.no_grad()
def test_the_two_layouts_give_the_same_logits(encoder: Path, decoder: Path) -> None:
    for folder in (encoder, decoder):
        model = load.load_classifier(catalog.find(str(folder)), ModelChoice(name="x"), ("a", "b", "c"), None, 0)
        packed = model.class_logits(rows())
        model.layout = "padded"
        model.net.get_submodule(model.root).set_attn_implementation("sdpa")
        assert torch.allclose(packed, model.class_logits(rows()), atol=1e-5)


@torch.no_grad()
def test_a_sliding_window_is_honoured(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tiny.make_decoder(tmp_path / "windowed", "mistral", 64)
    config = AutoConfig.from_pretrained(folder, sliding_window=5)
    config.save_pretrained(folder)
    model = load.load_causal_lm(catalog.find(str(folder)), ModelChoice(name="x"), None)
    stock = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    every = torch.arange(sum(LENGTHS))
    alone = torch.cat([stock(input_ids=torch.tensor([row.ids])).logits[0] for row in rows()])
    assert torch.allclose(model.label_logits(rows(), every), alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "electra", "roberta", "distilbert", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("head", ["token", "span"])
def test_two_texts_in_a_stream_give_the_logits_of_the_stock_class_one_row_at_a_time(
    tmp_path: Path, kind: str, head: str
) -> None:
    """Token types included, where the family has them."""
    import transformers

    folder = tiny.make_encoder(tmp_path / kind, kind, **({"type_vocab_size": 2} if kind == "bert" else {}))
    source, choice = catalog.find(str(folder), print), ModelChoice(name=str(folder))
    if head == "token":
        model = load.load_token_classifier(source, choice, ("O", "B-X", "I-X"), None, 0)
    else:
        model = load.load_span_classifier(source, choice, None, 0)
    model.net.eval()
    typed = kind in ("bert", "electra", "roberta")  # the tiny RoBERTa has two types, as its config does by default
    pairs = [("what is it ?", "the red box is late"), ("who", "we paid the bill twice today"), ("no", "yes")]
    rows = [model.text.windows(second, first)[0] for first, second in pairs]
    assert all(row.types for row in rows)
    with torch.no_grad():
        together = model.token_logits(rows).split([len(row.ids) for row in rows])
        stock = getattr(
            transformers, f"AutoModelFor{'TokenClassification' if head == 'token' else 'QuestionAnswering'}"
        )
        net = stock.from_config(deepcopy(model.config), attn_implementation="eager")
        net.load_state_dict(model.net.state_dict())
        net.eval()
        for row, found in zip(rows, together, strict=True):
            told = {"token_type_ids": torch.tensor([row.types])} if typed else {}
            out = net(input_ids=torch.tensor([row.ids]), **told)
            logits = out.logits if head == "token" else torch.stack([out.start_logits, out.end_logits], -1)
            assert torch.allclose(found, logits[0], atol=1e-5)
        bare = [replace(row, types=()) for row in rows]
        moved = float((model.token_logits(bare) - torch.cat(together)).abs().max())
        assert (moved > 1e-3) == typed


def test_two_texts_of_a_decoder_stand_in_two_lines_however_they_are_cut(decoder: Path) -> None:
    from transformers import AutoTokenizer

    from tunesmith.models.text import TextEncoder

    tokenizer = AutoTokenizer.from_pretrained(decoder)
    first, second = "where is my parcel", "the box was lost twice"
    whole = TextEncoder(tokenizer, 500).pair(first, second)
    assert tokenizer.decode(whole.ids).strip() == f"{first}\n{second}"
    assert [whole.text[a:b] for a, b in whole.offsets if b > a][-1].strip() in second
    for most in (len(whole.ids) - 1, 12, 7):
        cut = TextEncoder(tokenizer, most).pair(first, second)
        assert len(cut.ids) == most and cut.cut == len(whole.ids) - most
        assert "\n" in tokenizer.decode(cut.ids)
