"""Every rule: a report with its sign gives the advice, one without does not, and `--set` takes its change."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reports
import tiny
from tunesmith import recipefile, run
from tunesmith.doctor.finding import Finding
from tunesmith.events import Updated
from tunesmith.evidence import advice
from tunesmith.evidence.advice import Signs
from tunesmith.recipe import Recipe

Value = dict[str, Any]


def recipe(**changes: Any) -> Recipe:
    return recipefile.build(
        {"model": "minilm", "task": "text-classification", "data": "x.csv", "method": "full"} | changes
    )


def healthy() -> Signs:
    """A run without a sign of anything."""
    report = reports.classification()
    report["verdict"] = reports.verdict("helped", "macro_f1", 0.071, 0.05, 0.092, 0.0004)
    report["overfitting"] |= {"low": 0.0, "best_step": 300, "last_step": 300, "duplicates": None, "memorised": None}
    report["curves"] = {
        "watched": "macro_f1", "steps": list(range(30)), "losses": [2.0 - k / 20 for k in range(30)],
        "looks": [{"step": 100 * k, "scores": {"macro_f1": value}} for k, value in ((1, 0.8), (2, 0.88), (3, 0.881))],
    }  # fmt: skip
    report |= {"kept": [], "written": None, "slices": None, "scaling": None}
    shares = {one["label"]: 1 / 8 for one in report["labels"]}
    options = frozenset({"smoothing", "balance"})
    return Signs(report, recipe(), (), 2e-5, shares, options, None, 0.0, higher=True, context=512)


def finding(kind: str, count: int, of: int = 1000) -> Finding:
    return Finding(kind, "train", count, of, (), "why", "hint")


def changed(signs: Signs, *path: str, to: Any) -> Signs:
    report = json.loads(json.dumps(signs.report))
    here = report
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = to
    return replace(signs, report=report)


def hurt(s: Signs) -> Signs:
    return changed(s, "verdict", to=reports.verdict("hurt", "macro_f1", -0.05, -0.07, -0.03, 0.001))


def leaked(s: Signs) -> Signs:
    return changed(
        s, "overfitting", "duplicates", to={"rows": 9, "score": reports.score(0.9), "without": reports.score(0.8)}
    )


def all_leaked(s: Signs) -> Signs:
    return changed(s, "overfitting", "duplicates", to={"rows": 9, "score": reports.score(0.9), "without": None})


def rising(s: Signs) -> Signs:
    return changed(s, "curves", "looks", 1, "scores", "macro_f1", to=0.85)  # type: ignore[arg-type]


def passed(s: Signs) -> Signs:
    s = changed(s, "curves", "looks", 0, "scores", "macro_f1", to=0.9)  # type: ignore[arg-type]
    return changed(s, "overfitting", "best_step", to=100)


def gap(s: Signs) -> Signs:
    return changed(s, "overfitting", "low", to=0.08)


def slow(s: Signs) -> Signs:
    s = changed(s, "verdict", to=reports.verdict("unclear", "macro_f1", 0.01, -0.02, 0.03, 0.5))
    return changed(s, "curves", "losses", to=[2.0 - k / 1000 for k in range(30)])


def at_the_upper_end(s: Signs) -> Signs:
    return replace(s, ranged=("upper", 2e-4))


def at_the_lower_end(s: Signs) -> Signs:
    return replace(s, ranged=("lower", 1e-5))


def rare(s: Signs) -> Signs:
    return changed(replace(s, shares=s.shares | {"address": 0.01}), "labels", 7, "recall", to=0.2)  # type: ignore[arg-type]


def noisy(s: Signs) -> Signs:
    return replace(s, findings=(finding("label-noise", 40),))


def truncated(s: Signs) -> Signs:
    return replace(s, findings=(finding("truncated", 40),), recipe=recipe(data={"train": "x.csv", "max_tokens": 64}))


def endless(s: Signs) -> Signs:
    written = recipe(model="smollm2-135m", task="chat", method="lora")
    return replace(s, cut=0.1, room=64, recipe=written, options=frozenset({"smoothing"}), shares={})


def unclear(s: Signs) -> Signs:
    return changed(s, "verdict", to=reports.verdict("unclear", "macro_f1", 0.01, -0.02, 0.03, 0.5, needed=3000))


def forgotten(s: Signs) -> Signs:
    return changed(s, "kept", to=reports.classification()["kept"][:1])


def unlearned(s: Signs) -> Signs:
    what = "answers in the form that was asked for"
    lost = {"name": "format", "what": what, "n": 12, "base_hits": 9, "tuned_hits": 1, "outcome": "lost"}
    return changed(s, "written", to={"probes": [{**lost, "outcome": "unclear"}, lost]})


def by_heart(s: Signs) -> Signs:
    return changed(s, "overfitting", "memorised", to={"tried": 32, "exact": 5, "base_exact": 2, "rows": []})


def weak(s: Signs) -> Signs:
    return changed(s, "slices", to=reports.classification()["slices"])


def more(s: Signs) -> Signs:
    return changed(s, "scaling", to=reports.classification()["scaling"])


RULES: dict[str, tuple[Callable[[Signs], Signs], str, Value]] = {
    "hurt": (hurt, "the tuned model is worse than the untuned one (macro_f1 -0.050)", {"train.learning_rate": 6.7e-06}),
    "leaked": (
        leaked,
        "9 rows of the verdict are training rows too: the score is 0.900 with them and 0.800 without",
        {},
    ),
    "all leaked": (all_leaked, "all rows of the verdict are training rows too: nothing is known of others", {}),
    "rising": (
        rising,
        "macro_f1 on validation was still getting better at the last look (0.850 to 0.881)",
        {"train.epochs": 6.0},
    ),
    "passed": (
        passed,
        "the best checkpoint is of update 100 of 300; after it macro_f1 went from 0.900 to 0.881",
        {"evaluate.early_stopping": 2},
    ),
    "gap": (
        gap,
        "macro_f1 is 0.985 on training rows and 0.883 on unseen ones",
        {"task.smoothing": 0.1, "model.dropout": 0.2},
    ),
    "slow": (slow, "the training loss hardly fell (1.999 to 1.972)", {"train.learning_rate": 6e-5}),
    "at the upper end": (
        at_the_upper_end,
        "the loss still fell at the highest learning rate that was tried, 0.0002, so that the one that was measured, "
        "2e-05, may be too low",
        {"train.learning_rate": 6e-5},
    ),
    "at the lower end": (
        at_the_lower_end,
        "the learning rate that was measured, 2e-05, is at the lower end of what was tried (1e-05)",
        {"train.learning_rate": 6.7e-06},
    ),
    "rare": (
        rare,
        "1 rare labels are seldom found: recall of `address` is 0.200, where the mean is 0.786",
        {"task.balance": "weights"},
    ),
    "noisy": (noisy, "40 of 1000 train rows look as if their label was wrong", {}),
    "truncated": (truncated, "40 of 1000 train rows did not fit the model and were cut", {"data.max_tokens": 128}),
    "endless": (endless, "10% of the answers were cut at 64 tokens", {"task.max_new_tokens": 128}),
    "unclear": (unclear, "the difference to the untuned model (+0.010) cannot be told on these rows", {}),
    "forgotten": (
        forgotten,
        "general sentences went from 0.810 to 0.780: Similarity of pairs of sentences, by the frozen probe.",
        {"train.learning_rate": 1e-5},
    ),
    "unlearned": (
        unlearned,
        "1 of 12 answers in the form that was asked for, 9 before tuning",
        {"train.learning_rate": 1e-5},
    ),
    "by heart": (by_heart, "3 of 32 training rows are written by heart", {"train.epochs": 1.5}),
    "weak": (
        weak,
        "rows with length `more than 40 words` are worse: accuracy 0.740, -0.143 from all others",
        {},
    ),
    "more": (more, "the score still rises with the rows: Twice the rows would bring about +0.018.", {}),
}  # fmt: skip


def applied(signs: Signs, change: Value) -> Recipe:
    said = tuple(f"{key}={json.dumps(value)}" for key, value in change.items())
    return recipefile.build(json.loads(json.dumps(signs.recipe.model_dump(mode="json", exclude_unset=True))), said)


def test_a_run_without_a_sign_gets_no_advice() -> None:
    assert advice.look(healthy()) == []


@pytest.mark.parametrize("name", list(RULES))
def test_a_sign_gives_its_advice_with_a_change_that_the_recipe_takes(name: str) -> None:
    show, sign, change = RULES[name]
    signs = show(healthy())
    (found,) = advice.look(signs)
    assert found["sign"] == sign and found["do"]
    assert found["change"] == change
    made = applied(signs, change)
    assert (made == signs.recipe) == (not change)


def test_there_are_rules_for_all_and_a_test_for_every_rule() -> None:
    told = {rule(show(healthy()))["sign"]: rule for show, _, _ in RULES.values() for rule in advice._RULES
            if rule(show(healthy()))}  # type: ignore[index]  # fmt: skip
    assert set(told.values()) == set(advice._RULES)


def test_of_many_signs_the_weightiest_five_are_told_and_no_key_is_changed_twice() -> None:
    signs = healthy()
    for show in (hurt, leaked, passed, gap, forgotten, by_heart, noisy, weak):
        signs = show(signs)
    found = advice.look(signs)
    assert len(found) == advice.MOST
    assert found[0]["sign"].startswith("9 rows of the verdict") and found[1]["sign"].startswith(
        "the tuned model is worse"
    )
    keys = [key for one in found for key in one["change"]]
    assert len(keys) == len(set(keys)) > 0
    both = advice.look(forgotten(hurt(healthy())))
    assert [one["change"] for one in both] == [{"train.learning_rate": 6.7e-06}, {}]


def test_nobody_is_told_to_learn_faster_and_more_slowly() -> None:
    for show in (hurt, forgotten, unlearned):
        signs = show(slow(healthy()))
        said = " ".join(one["do"] for one in advice.look(signs))
        assert "learn faster" not in said and "more slowly" in said
        said = " ".join(one["do"] for one in advice.look(show(at_the_upper_end(healthy()))))
        assert "above" not in said and "more slowly" in said
    assert [one["do"] for one in advice.look(at_the_lower_end(slow(healthy())))] == ["learn faster"]


def test_nobody_is_told_to_train_longer_and_shorter() -> None:
    found = advice.look(by_heart(rising(healthy())))
    assert [one["change"] for one in found] == [{"train.epochs": 6.0}, {}]
    assert "fewer" not in found[1]["do"]


def test_a_score_that_falls_was_not_getting_better() -> None:
    falling = changed(rising(healthy()), "overfitting", to=None)
    assert [one["do"] for one in advice.look(falling)] == ["train longer"]
    assert advice.look(replace(falling, higher=False)) == []


def test_a_run_of_steps_is_made_longer_or_shorter_by_steps() -> None:
    of_steps = replace(healthy(), recipe=recipe(train={"steps": 100}))
    for show, change in ((rising, {"train.steps": 200}), (by_heart, {"train.steps": 50})):
        (found,) = advice.look(show(of_steps))
        assert found["change"] == change
        assert applied(of_steps, change).train.steps == change["train.steps"]
    short = replace(healthy(), recipe=recipe(train={"epochs": 1.0}))
    assert advice.look(by_heart(short))[0]["change"] == {"train.epochs": 0.5}


def test_what_the_task_does_not_take_is_not_advised() -> None:
    pairs = replace(healthy(), recipe=recipe(task={"name": "text-classification", "contrast": True}))
    (found,) = advice.look(gap(pairs))
    assert found["change"] == {"model.dropout": 0.2} and applied(pairs, found["change"])
    assert advice.look(rare(pairs)) == []


def test_what_was_done_already_is_not_advised_again() -> None:
    done = replace(healthy(), recipe=recipe(
        model={"name": "minilm", "dropout": 0.3}, evaluate={"early_stopping": 3},
        task={"name": "text-classification", "balance": "weights", "smoothing": 0.1},
    ))  # fmt: skip
    assert advice.look(rare(done)) == advice.look(passed(done)) == []
    assert advice.look(gap(done))[0]["change"] == {}
    read = replace(truncated(healthy()), context=64)
    assert advice.look(read)[0]["change"] == {}
    assert advice.look(replace(read, context=100))[0]["change"] == {"data.max_tokens": 100}


def test_a_label_without_rows_in_the_test_is_not_seldom_found() -> None:
    absent = changed(rare(healthy()), "labels", 7, "n", to=0)  # type: ignore[arg-type]
    assert advice.look(absent) == []


def test_a_recipe_that_names_no_task_is_told_its_name_with_its_options() -> None:
    signs = gap(replace(healthy(), task="text-classification"))
    (found,) = advice.look(signs)
    bare = recipefile.build(
        {"model": "minilm", "data": "x.csv"},
        tuple(f"{key}={json.dumps(value)}" for key, value in found["change"].items()),
    )
    assert bare.task is not None and (bare.task.name, bare.task.options()) == (
        "text-classification",
        {"smoothing": 0.1},
    )


def test_a_score_that_was_no_number_at_a_look_is_no_sign() -> None:
    signs = healthy()
    for k in range(3):
        signs = changed(signs, "curves", "looks", k, "scores", to={})  # type: ignore[arg-type]
    assert advice.look(signs) == []


def test_a_run_that_was_stopped_and_resumed_is_given_the_same_advice(encoder: Path, tmp_path: Path) -> None:
    rows = [
        row | {"text": row["text"] + " the door" * (20 * (k % 4 == 0))} for k, row in enumerate(tiny.label_rows(90))
    ]
    path = tiny.write_csv(tmp_path / "rows.csv", rows)
    told = []
    for stop in (False, True):
        values = tiny.recipe_values(
            encoder, path, tmp_path / f"runs-{stop}", data__max_tokens=16, evaluate__compare=False,
            evaluate__verify=False,
        )  # fmt: skip
        directory, prepared = run.begin(recipefile.build(values), None, [])
        for event in run.go(directory, prepared):
            if stop and isinstance(event, Updated) and event.step == 3:
                break
        if stop:
            directory, again = run.resume(directory.path)
            assert again is not None
            list(run.go(directory, again))
        told.append(directory.json("report/report")["advice"])
    assert any("did not fit the model and were cut" in one["sign"] for one in told[0])
    assert told[0] == told[1]
