"""A trial is the run that its recipe is by itself, to the bit, whatever it shares with trials before it."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunesmith import recipefile, run
from tunesmith.errors import NotFinite, RecipeError
from tunesmith.events import Updated
from tunesmith.recipe import Recipe
from tunesmith.search.shared import Shared, Store
from tunesmith.search.trial import Outcome, halves, run_trial

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"method": "full", "train__ema": 0.9, "train__noise": 5.0},
    "adapters that take off from the matrices": {"method": {"name": "lora", "init": "pissa", "dropout": 0.2}},
    "top layers over kept blocks": {"method": {"name": "top-layers", "layers": 1}},
    "a probed head": {"method": "head", "net": {"head": "probe"}},
    "by pairs": {"task": {"name": "text-classification", "contrast": True}, "method": "full"},
    "the library's adapter": {"method": {"name": "peft", "type": "IA3"}},
    "one block": {"method": "full", "net": {"blocks": 1}},
}


def recipe(encoder: Path, rows: Path, out: Path, net: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    values = tiny.recipe_values(encoder, rows, out, evaluate={"compare": False, "verify": False}, **changes)
    return recipefile.build({**values, "model": {"name": str(encoder), **(net or {})}})


def followed(running: Generator[Any, None, Outcome]) -> tuple[list[Updated], Outcome]:
    seen = []
    while True:
        try:
            event = next(running)
        except StopIteration as done:
            return seen, done.value
        if isinstance(event, Updated):
            seen.append(event)


def same(a: Updated, b: Updated) -> bool:
    names = ("step", "losses", "grad_norm", "learning_rate", "tokens", "labels", "scores")
    return all(getattr(a, name) == getattr(b, name) for name in names)


@pytest.fixture(scope="module")
def shared() -> Shared:
    """One for all variants: each comes after trials that changed their copies of the same net."""
    return Shared()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", tiny.label_rows(60))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_trial_is_its_recipe_trained_alone_to_the_bit(
    variant: str, encoder: Path, rows: Path, tmp_path: Path, shared: Shared
) -> None:
    made = recipe(encoder, rows, tmp_path, **VARIANTS[variant])
    directory, prepared = run.begin(made, None, [])
    alone = [event for event in run.go(directory, prepared) if isinstance(event, Updated)]
    again = 2 if "kept blocks" in variant else 1  # the second draws on the table that the first has left
    for _ in range(again):
        seen, outcome = followed(run_trial(made, shared))
        assert len(seen) == len(alone) > 3
        assert all(map(same, seen, alone))
        assert outcome.value == max(event.scores["macro_f1"] for event in alone if event.scores)
        assert outcome.plan == {**directory.json("plan"), **{name: outcome.plan[name] for name in MEASURED}}
    assert (shared.tables.made > 0) >= ("kept blocks" in variant)


MEASURED = ("seconds", "peak_bytes", "before_bytes")
"""Of a plan: what is another number every time, and decides nothing."""


def test_rows_weights_tokens_and_tables_are_made_once_for_all_trials_that_share_them(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    shared = Shared()
    for layers, rate in ((1, 1e-2), (1, 1e-3), (2, 1e-2)):
        method = {"name": "top-layers", "layers": layers}
        followed(run_trial(recipe(encoder, rows, tmp_path, method=method, train__learning_rate=rate), shared))
    for rank in (2, 4):
        followed(run_trial(recipe(encoder, rows, tmp_path, method={"name": "lora", "rank": rank}), shared))
    assert shared.rows.made == 1
    assert shared.nets.made == 1
    assert shared.examples.made == 3  # train, validation and test
    assert shared.tables.made == 1  # of the two trials that freeze a block; nothing is frozen under both layers


def test_another_seed_or_another_head_is_another_net(encoder: Path, rows: Path, tmp_path: Path) -> None:
    shared = Shared()
    for changes in ({}, {"train__seed": 1}, {"net": {"blocks": 1}}):
        followed(run_trial(recipe(encoder, rows, tmp_path, train__steps=2, train__epochs=3.0, **changes), shared))
    assert shared.nets.made == 3
    assert shared.rows.made == 1


def test_what_a_net_is_refused_for_is_asked_of_every_trial(encoder: Path, rows: Path, tmp_path: Path) -> None:
    shared = Shared()
    pairs = {"task": {"name": "text-classification", "contrast": True}}
    followed(run_trial(recipe(encoder, rows, tmp_path, train__steps=2, train__epochs=3.0, **pairs), shared))
    with pytest.raises(RecipeError, match="pairs of a batch"):
        followed(run_trial(recipe(encoder, rows, tmp_path, train__batch_size=2, **pairs), shared))


def test_a_trial_is_told_at_which_share_it_stands_and_ends_where_it_is_pruned(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    asked: list[float] = []

    def prune(share: float, value: float) -> bool:
        asked.append(share)
        return share > 0.4

    made = recipe(encoder, rows, tmp_path, train__epochs=4)
    seen, outcome = followed(run_trial(made, Shared(), prune))
    assert asked == [0.25, 0.5]
    assert outcome.pruned and outcome.step == seen[-1].step == outcome.steps // 2
    whole = followed(run_trial(made, Shared(), lambda share, value: share == 1))[1]
    assert not whole.pruned, "a trial that is done has nothing left to be spared"


def test_a_trial_that_is_not_finite_says_so(encoder: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFinite):
        followed(run_trial(recipe(encoder, rows, tmp_path, method="full", train__learning_rate=1e18), Shared()))


def test_without_test_rows_one_half_of_validation_chooses_and_the_other_chooses_nothing(
    encoder: Path, rows: Path, tmp_path: Path
) -> None:
    made = recipe(encoder, rows, tmp_path, data__validation=str(rows), data__allow=["leak"])
    plain = followed(run_trial(made, Shared()))[1]
    kept = followed(run_trial(made, Shared(), keep=True))[1]
    assert plain.kept is None and kept.kept is not None
    assert plain.value == kept.value, "scoring the other half changes nothing"
    counts = [len(next(iter(measured.rows.values()))) for measured in (kept.chose, kept.kept)]
    assert sum(counts) == 60 and min(counts) >= 29


def test_halves_share_no_row_and_keep_groups_together() -> None:
    from tunesmith.contracts import Row
    from tunesmith.data.content import GROUP

    made = [Row(k, {"text": str(k), GROUP: k // 3}, "f", k) for k in range(31)]
    first, second = halves(made)
    texts = [{row["text"] for row in part} for part in (first, second)]
    assert texts[0].isdisjoint(texts[1]) and len(texts[0] | texts[1]) == 31
    assert 12 <= len(first) <= 19
    assert {int(text) // 3 for text in texts[0]}.isdisjoint(int(text) // 3 for text in texts[1])


def test_what_is_kept_stays_within_its_memory() -> None:
    store: Store[bytes] = Store(len, lambda: 10)
    for name in "abc":
        store.get(name, lambda: b"12345")
    assert store.made == 3
    store.get("c", lambda: b"")
    store.get("b", lambda: b"")
    assert store.made == 3, "the last two fit"
    store.get("a", lambda: b"12345")
    assert store.made == 4, "the first had to go"
    store.get("d", lambda: b"x" * 11)
    store.get("d", lambda: b"x")
    assert store.made == 6, "what is too large is kept nowhere"
