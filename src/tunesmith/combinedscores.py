"""What one model of several trainings is worth: its score on rows that no member has seen, beside its members.

Over folds every row is learned from by some member, so there is no such row: then it has no score, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith import judgement as judging
from tunesmith import recipefile, stats
from tunesmith.averaging import Uniting
from tunesmith.combined import Combination, Trained, sum_of
from tunesmith.contracts import Metric, Row, Task
from tunesmith.data import splits
from tunesmith.data.rows import contents
from tunesmith.errors import RunError
from tunesmith.evidence import compared
from tunesmith.metrics.measured import Measured, Score
from tunesmith.predictor import named_task
from tunesmith.recipefile import make_plugin
from tunesmith.report import measures, modelcard
from tunesmith.report.tables import chance, markdown, number, with_interval

_WORDS = {"helped": "better than", "hurt": "worse than", "unclear": "not distinguishable from"}
_FORMS = {
    "tensors": "The mean of their weights, tensor by tensor, in double precision and rounded once.",
    "adapters": "Their low-rank adapters end to end, which is exactly the mean of what each adds to the weights; all "
    "else that learned is a mean, tensor by tensor.",
    "folded": "The mean of their weights with the adapters folded into them, in double precision and rounded once.",
    "answers": "The mean of their answers: each net is run, and their probabilities (or numbers) are averaged.",
}


@dataclass(frozen=True)
class Rows:
    """What the members have seen, and the rows that none of them has."""

    seen: NDArray[np.uint64]
    """The sum of each row that a member learned from or was chosen by."""
    split: str | None
    """What the rows to score on are called; None where there are none."""
    unseen: Sequence[Row] = ()
    validation: Sequence[Row] = ()
    """Rows that all members were chosen by and none learned from."""
    some: Sequence[Row] = ()
    """Rows to hold the saved model against, seen or not."""


def rows_of(members: Sequence[Trained], reader: Combination) -> Rows:
    """Raises UserError where the rows of a training cannot be read."""
    found = []
    for fold in dict.fromkeys(member.fold for member in members):
        run = next(member.run for member in members if member.fold == fold)
        recipe = recipefile.build(run.json("resolved"), source=str(run.path / "resolved.json"))
        found.append(splits.load(recipe, make_plugin("tasks", *named_task(recipe))).rows)
    seen = np.unique(np.concatenate([contents(rows[name]) for rows in found for name in ("train", "validation")]))
    split = "test" if "test" in found[0] else "validation"
    gathered = {
        name: reader.readable(reader.task.gather(found[0][name], reader.model, "answer"))
        for name in dict.fromkeys((split, "validation"))
    }
    validation = gathered["validation"]
    if len(found) > 1:  # a test row of one fold is a training row of another
        return Rows(seen, None, some=validation)
    return Rows(seen, split, gathered[split], validation, validation)


def settled(made: Combination, rows: Rows) -> Task:
    """The task with what outputs on validation rows tell (thresholds, a temperature), of all nets together. A mean of
    probabilities, each at its own net's temperature, gets none on top."""
    task: Any = made.task
    if rows.split is None or type(task).settle is Task.settle:
        return made.task
    found = task.settle(rows.validation, made.outputs(rows.validation))
    whole: Any = found.united([found]) if len(made.nets) > 1 and isinstance(found, Uniting) else found
    united: Task = whole
    return united


def result(
    made: Combination, members: Sequence[Trained], how: str, form: str, rows: Rows, single: Score, folder: Path
) -> dict[str, Any]:
    """See repeatedshape.Combined; `folder` is where it will be. Raises RunError where members were scored on other
    rows."""
    report = members[0].run.json("report/report")
    metric = Metric(report["headline"], report["higher_is_better"])
    values = [_validation(member, made.task, metric) for member in members]
    order = max if metric.higher_is_better else min
    best = members[order(range(len(members)), key=values.__getitem__)]
    scores: dict[str, Score] = {}
    against: list[dict[str, Any]] = []
    if rows.split is not None:
        judged = made.judged(rows.split, rows.unseen)
        scores = judged.scores[rows.split]
        kept = {member.name: _measured(member, rows) for member in members}
        against = _beside(made.task, metric, judged.tuned.measured, kept, best.name)
    found: dict[str, Any] = {
        "folder": str(folder),
        "how": how,
        "form": form,
        "task": named_task(made.recipe)[0],
        "members": [
            {"name": one.name, "fold": one.fold, "seed": one.seed, "sha256": sum_of(one.run), "validation": value}
            for one, value in zip(members, values, strict=True)
        ],
        "headline": metric.name,
        "higher_is_better": metric.higher_is_better,
        "split": rows.split,
        "scores": {name: asdict(score) for name, score in scores.items()},
        "best": best.name,
        "against": against,
        "single": asdict(single),
    }
    return {**found, "says": sentence(found), "notes": _notes(made, members, found), "verified": []}


def _validation(member: Trained, task: Task, metric: Metric) -> float:
    """What a member's checkpoint was chosen by: its headline on its validation rows, or what stands for that."""
    found = {name: Score(**score) for name, score in member.run.json("report/report")["scores"]["validation"].items()}
    return found[metric.name if metric.name in found else judging.headline(task, found).name].value


def _measured(member: Trained, rows: Rows) -> Measured:
    """What a member's report measured of the same rows."""
    kept = measures.unpack(member.run.report / "measures.safetensors")
    if not np.array_equal(kept.content, contents(rows.unseen)):
        raise RunError("the run was scored on other rows than are there now", where=str(member.run.path))
    return kept.systems["tuned"]


def _beside(task: Task, metric: Metric, own: Measured, kept: Mapping[str, Measured], best: str) -> list[dict[str, Any]]:
    """A combination against the mean of its members' scores, and against the best of them."""
    if metric.name not in stats.scores(task, own):
        return []
    systems = list(kept.values())
    found = [
        ("the mean member", judging.mean_scores(task, systems), stats.compare_mean(task, metric, systems, own)),
        (f"the best member ({best})", stats.scores(task, kept[best]), stats.compare(task, metric, kept[best], own)),
    ]
    made = []
    for name, scores, verdict in found:
        told = {key: value for key, value in vars(verdict).items() if key not in ("metric", "needed")}
        made.append({"name": name, "kind": "member", "score": asdict(scores[metric.name]), **told})
    return compared.together(made)


def sentence(found: Mapping[str, Any]) -> str:
    """What came of it."""
    count, name = len(found["members"]), found["headline"]
    what = f"the mean of the weights of {count} trainings" if found["how"] == "weights" else f"{count} nets together"
    if found["split"] is None:
        return (
            f"No row is unseen by all members, so {what} cannot be scored on these rows. One training alone has "
            f"{name} {with_interval(found['single'])} on rows that it did not learn from."
        )
    own = found["scores"].get(name)
    said = f"{what}: {name} {with_interval(own)} on {own['n']:,} {found['split']} rows" if own else f"{what}: no {name}"
    beside = [
        f"{_WORDS[one['outcome']]} {one['name']}, {with_interval(one['score'])} ({one['difference']:+.3f} "
        f"[{one['low']:+.3f}, {one['high']:+.3f}], {chance(one['corrected'])})"
        for one in found["against"]
    ]
    return "; ".join([said[0].upper() + said[1:], *beside]) + "."


def _notes(made: Combination, members: Sequence[Trained], found: Mapping[str, Any]) -> list[str]:
    notes = []
    weights, tested = found["how"] == "weights", found["split"] is not None
    if weights and made.model.fresh and len({member.seed for member in members}) > 1:
        notes.append(
            "each seed drew a new head of its own, and the mean of heads that began elsewhere may be worth less than "
            "one: " + ("the scores say whether it is" if tested else "nothing here says whether it is")
        )
    if type(made.task).settle is not Task.settle and weights:
        notes.append(
            "what is fitted to outputs (a temperature, thresholds) was fitted anew, on the validation rows"
            if tested
            else "there is no row to fit a temperature or thresholds on: there is no temperature, and thresholds are "
            "the mean of the members'"
        )
    if not tested:
        notes.append(
            f"`tunesmith evaluate {found['folder']} --data FILE` scores it on rows of your own, without those that a "
            "member has seen"
        )
    if found["split"] == "validation":
        notes.append("no test rows: the scores are on the rows that chose the checkpoints, and flatter a little")
    return [*notes, *made.task.notes()]


def card(found: Mapping[str, Any], members: Sequence[Trained]) -> str:
    """The README of a combination: metadata between lines of dashes, then Markdown."""
    import yaml

    name = Path(found["folder"]).parent.parent.name
    scores = {} if found["split"] is None else {found["split"]: found["scores"]}
    report = {**members[0].run.json("report/report"), "run": name, "scores": scores}
    header = yaml.safe_dump(modelcard.metadata(report), sort_keys=False, allow_unicode=True, width=1000)
    table = [["member", "fold", "seed", f"{found['headline']} on its validation rows", "sha256"]]
    table += [
        [one["name"], "-" if one["fold"] is None else str(one["fold"]), str(one["seed"]), number(one["validation"]),
         f"`{one['sha256']}`"]
        for one in found["members"]
    ]  # fmt: skip
    parts = [
        f"# {name}: {'the mean of' if found['how'] == 'weights' else 'an ensemble of'} {len(members)} trainings",
        found["says"],
        "## Members",
        f"A combination of trainings of one recipe. {_FORMS[found['form']]}",
        markdown(table),
    ]
    if found["scores"]:
        lines = [["metric", found["split"], "n"]]
        lines += [[metric, with_interval(score), f"{score['n']:,}"] for metric, score in found["scores"].items()]
        parts += ["## Scores", "On rows that no member has learned from; brackets are 95 % intervals.", markdown(lines)]
    if found["notes"]:
        parts += ["## Limits", "\n".join(f"- {note}" for note in found["notes"])]
    return f"---\n{header}---\n\n" + "\n\n".join(parts) + "\n"
