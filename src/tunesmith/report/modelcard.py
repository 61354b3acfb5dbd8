"""The README of a saved model: what is known of it, from `report.json`, under the metadata that model hubs read.

The keys are those of the model-card metadata of the Hugging Face hub (hub-docs, `modelcard.md`). No path of the machine
is in it: files go by their names. What stands in rows is escaped, for Markdown and for HTML.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.models.catalog import CATALOG
from tunesmith.report import course, sections, tables
from tunesmith.report.pagetext import chance, count, duration, size, visible
from tunesmith.report.svg import finite

Part = Mapping[str, Any]
_PIPELINES = {
    "text-classification": "text-classification",
    "multi-label-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "fill-mask": "fill-mask",
    "chat": "text-generation",
    "text-generation": "text-generation",
    "summarization": "summarization",
    "translation": "translation",
    "retrieval": "sentence-similarity",
    "reranking": "text-ranking",
    "image-classification": "image-classification",
}
_USES = {
    "text-classification": "gives a text one of the labels that it was tuned on",
    "multi-label-classification": "gives a text any number of the labels that it was tuned on",
    "token-classification": "marks words of a text with the types that it was tuned on",
    "question-answering": "finds the answer to a question in a text that is given with it",
    "fill-mask": "fills in hidden words of texts like those that it was tuned on",
    "chat": "answers in chats like those that it was tuned on",
    "text-generation": "goes on with texts like those that it was tuned on",
    "summarization": "sums up texts like those that it was tuned on",
    "translation": "translates texts like those that it was tuned on",
    "retrieval": "finds the texts that belong to a query, by their vectors",
    "reranking": "puts candidates for a query in order",
    "image-classification": "gives an image one of the labels that it was tuned on",
    "text-regression": "gives a text a number",
}
_LICENCES = frozenset(
    (
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "unlicense", "wtfpl", "cc0-1.0"),
        *("cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0"),
        *("openrail", "bigscience-openrail-m", "bigscience-bloom-rail-1.0", "creativeml-openrail-m"),
        *("bigcode-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma", "other", "unknown"),
    )
)
"""Names of licences that the hub knows, of those that models have; all others are `other` with their name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_DATA = re.compile(r"(?:hf://|datasets--)([\w.-]+?)(?:/|--)([\w.-]+)")
_SIGNS = re.compile(r"([\\`*_\[\]#|~!])")
_SPLITS = ("train", "validation", "valid", "val", "dev", "test")
_WORST = 12
"""Slices and groups that are named."""
_FILES = 20


def card(report: Part) -> str:
    """The card of a `report.json` (reportshape.Report): metadata between lines of dashes, then Markdown."""
    import yaml

    header = yaml.safe_dump(metadata(report), sort_keys=False, allow_unicode=True, width=1000)
    parts = [
        f"# {_plain(Path(report['run']).name)}",
        _said(report["headline_says"]),
        *_use(report),
        *_data(report),
        *_results(report),
        *_worse(report),
        *_limits(report),
        *_made(report),
        *_licence(report),
        *_how(report),
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(parts) + "\n"


def metadata(report: Part) -> dict[str, Any]:
    """What a hub reads of the card; keys of which nothing is known are left out."""
    task, settings = report["task"], report["settings"]
    licence = (report["licence"] or "").lower()
    method = settings.get("method")
    known: dict[str, Any] = {
        "library_name": "tunesmith",
        "pipeline_tag": _PIPELINES.get(task),
        "tags": ["tunesmith", task, *([method] if isinstance(method, str) and method else [])],
        "license": licence if licence in _LICENCES else "other" if licence else None,
        "license_name": re.sub(r"[^a-z0-9.]+", "-", licence).strip("-")
        if licence and licence not in _LICENCES
        else None,
        "base_model": base_model(settings.get("model")),
        "datasets": sorted({"/".join(found.groups()) for path in report["sums"] if (found := _HUB_DATA.search(path))}),
        "model-index": _index(report),
    }
    return {key: value for key, value in known.items() if value}


def base_model(name: Any) -> str | None:
    """The hub's name of the model that was tuned; None for a folder of the user's, and where there is none."""
    for entry in CATALOG:
        if entry.name == name:
            return entry.hub_id
    if isinstance(name, str) and _HUB_ID.fullmatch(name) and not os.path.isdir(name):
        return name
    return None


def _index(report: Part) -> list[dict[str, Any]]:
    """The scores of the saved model on the rows of the verdict; those that are no numbers are left out."""
    if not report["scores"]:
        return []
    split = tables.final_split(report)
    metrics = [
        {"type": name, "value": round(score["value"], 6), "name": _in_words(name, score)}
        for name, score in report["scores"][split].items()
        if finite(score["value"])
    ]
    names = _data_set(report)
    result = {
        "task": {"type": _PIPELINES.get(report["task"], report["task"]), "name": report["task"]},
        "dataset": {"type": re.sub(r"[^a-z0-9.]+", "-", names[0].lower()), "name": ", ".join(names), "split": split},
        "metrics": metrics,
    }
    return [{"name": " ".join(visible(Path(report["run"]).name).split()), "results": [result]}] if metrics else []


def _in_words(name: str, score: Part) -> str:
    """A metric with its interval: the metadata has no other place for it."""
    interval = f"95 % interval {tables.number(score['low'])} to {tables.number(score['high'])}"
    return f"{name}, {interval}, {count(score['n'], 'row')}"


def _data_set(report: Part) -> list[str]:
    """What the rows are called: their files, or where these are named by split alone the folder that they are in."""
    places = [Path(path) for path in report["sums"]]
    if places and all(place.stem.partition(".")[0] in _SPLITS for place in places):
        places = [place.parent for place in places]
    names = dict.fromkeys(" ".join(visible(place.name).split()) for place in places)
    return [name for name in names if name][:_FILES] or [f"rows of {report['task']}"]


def _use(report: Part) -> list[str]:
    does = _USES.get(report["task"], f"does {report['task']}")
    return [
        "## Intended use",
        f"The model {does}. It is meant for rows like those it was tuned and scored on (below); what it does with "
        "others was not tested.",
    ]


def _data(report: Part) -> list[str]:
    lines = ["## Training data"]
    rows = report["settings"].get("rows")
    if isinstance(rows, Mapping) and rows:
        lines.append("Rows: " + ", ".join(f"{_number(n)} {_plain(str(split))}" for split, n in rows.items()) + ".")
    files = course.files(report)
    if files:
        table = [["file", "sha256"], *([_plain(name), f"`{digest}`"] for name, _, digest in files[:_FILES])]
        lines.append(tables.markdown(table))
        if len(files) > _FILES:
            lines.append(f"and {count(len(files) - _FILES, 'more file')}.")
    return lines if len(lines) > 1 else []


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _plain(str(value))


def _results(report: Part) -> list[str]:
    if not report["scores"]:
        return []
    shown = [[_plain(cell, "*[]") for cell in line] for line in tables.comparison(report)]
    split = tables.final_split(report)
    lines = [
        "## Scores",
        f"On {split} rows; brackets are 95 % intervals, \\* is the headline.",
        tables.markdown(shown),
    ]
    if report["compared"]:
        words = {"helped": "tuned is better", "hurt": "tuned is worse", "unclear": "no difference shown"}
        table = [["against", "difference", "p", "p (Holm)", "outcome"]]
        table += [
            [
                _plain(one["name"]),
                sections.interval(one),
                chance(one["p"]),
                chance(one["corrected"]),
                words[one["outcome"]],
            ]
            for one in report["compared"]
        ]
        lines.append(tables.markdown([[cell.replace("<", "&lt;") for cell in line] for line in table]))
    return lines


def _worse(report: Part) -> list[str]:
    """Parts of the rows, and groups, that fare worse than the others."""
    lines = []
    slices = report["slices"]
    worse = [one for one in slices["slices"] if one["worse"]] if slices else []
    for one in worse[:_WORST]:
        lines.append(
            f"- {_plain(one['by'])} {_plain(one['value'])}: {slices['metric']} {tables.with_interval(one['score'])} on "
            f"{count(one['n'], 'row')}, {sections.interval(one)} from all others"
        )
    for found in report["fairness"]:
        odd = [one for one in found["groups"] if one["odd"] and finite(one["gap"]) and one["gap"] > 0]
        for one in odd[:_WORST]:
            labels = ", ".join(map(_plain, found["positive"]))
            gap = sections.interval({**one, "difference": one["gap"]})
            lines.append(
                f"- {_plain(found['by'])} {_plain(one['value'])}: given {labels} wrongly at a rate of "
                f"{tables.with_interval(one['rate'])}, {gap} from all others"
            )
    return (
        ["## Where it is worse", "At 5 %, corrected for the number of comparisons:", "\n".join(lines)] if lines else []
    )


def _limits(report: Part) -> list[str]:
    lines = [_said(note) for note in report["notes"]]
    sure = report["calibration"]
    if sure:
        warm = f", with a temperature of {tables.number(sure['temperature'])}" if finite(sure["temperature"]) else ""
        lines.append(f"its confidence is off by {tables.with_interval(sure['error'])} on average{warm}")
    lines += [
        f"{_said(one['name'])} was lost: {sections.interval(one)}" for one in report["kept"] if one["outcome"] == "lost"
    ]
    lines += [
        f"{one['what']}: {one['tuned_hits']} of {one['n']}, where the untuned model had {one['base_hits']}"
        for one in (report["written"] or {"probes": []})["probes"]
        if one["outcome"] == "lost"
    ]
    over = report["overfitting"]
    if over and over["memorised"] and over["memorised"]["exact"]:
        heart = over["memorised"]
        lines.append(f"of {count(heart['tried'], 'training row')} it writes on {heart['exact']:,} word for word")
    if over and over["duplicates"] and over["duplicates"]["rows"]:
        lines.append(f"{count(over['duplicates']['rows'], 'scored row')} stand in the training rows too")
    untested = (
        (report["compared"] or report["base"], "it was not compared with the untuned model"),
        (report["slices"], "parts of the rows were not scored by themselves"),
        (report["fairness"], "whether it treats groups of people alike was not measured"),
        (report["kept"], "what it has forgotten of the base model was not measured"),
    )
    lines += [said for found, said in untested if not found]
    return ["## Limits", "\n".join(f"- {line}" for line in lines)] if lines else []


def _made(report: Part) -> list[str]:
    cost = report["cost"]
    settings = [f"{_plain(what)}: {_plain(much)}" for what, much in course.settings(report)]
    took = [
        f"time: {duration(sum(value for value in cost['seconds'].values() if finite(value)))}",
        f"peak memory: {size(cost['peak_memory_bytes'])}",
        f"energy: {tables.number(cost['watt_hours'])} Wh ({_said(cost['energy'])})",
    ]
    lines = ["## How it was made", "\n".join(f"- {line}" for line in [*settings, *took])]
    if report["verified"]:
        found = "\n".join(f"- {_said(line)}" for line in tables.verified_lines(report["verified"]))
        lines += ["What was verified of the saved files:", found]
    return lines


def _licence(report: Part) -> list[str]:
    if not report["licence"]:
        return []
    model = base_model(report["settings"].get("model"))
    of = f" (`{model}`)" if model else ""
    return [
        "## Licence",
        f"The base model{of} is under {_plain(report['licence'])}: read its terms before you pass this model on.",
    ]


def _how(report: Part) -> list[str]:
    run = re.sub(r"[^\w.-]", "_", Path(report["run"]).name)
    return [
        "## How to use it",
        "With the run that it is of, from the folder that holds it:",
        f"```bash\ntunesmith predict {run} --input rows.csv --output answers.csv\n```",
        "Tuned with Tunesmith. The run holds the recipe, the receipt, the predictions and the whole report.",
    ]


def _said(sentence: str) -> str:
    """A sentence of ours, in a line; what it may quote is neither markup nor a link."""
    return re.sub(r"\]([(:\[])", r"]\\\1", html.escape(visible(" ".join(sentence.split())), quote=False))


def _plain(text: str, but: str = "") -> str:
    """A text that may come from rows: no sign of it means anything to Markdown, but those that are named."""
    flat = html.escape(visible(tables.cell(text).replace("\\|", "|")), quote=False)
    return _SIGNS.sub(lambda found: found[1] if found[1] in but or found[1] == "_" else f"\\{found[1]}", flat)
