"""What bench/doctor.py plants into rows of real data sets: each function takes the rows of every split, or those of
one, and returns them with the defect, and the ids of the rows that have it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import planted
from bench.measure import data_folder, work_folder

from tunesmith.contracts import Row
from tunesmith.data import splits
from tunesmith.data.infer import infer
from tunesmith.recipefile import build, make_plugin

Splits = dict[str, list[Row]]
PROMPT = (
    "You are a careful annotator of film reviews. Read the following sentence, which was written by a critic or by a "
    "viewer, and decide whether the writer liked the film. Answer with one word, positive or negative, and nothing "
    "else. Take irony into account, and if both are said, decide by what outweighs. Sentence: "
)


def rows_of(name: str) -> tuple[Splits, str]:
    """A data set's rows by split, and its task."""
    folder = data_folder(name)
    values: dict[str, Any] = {"model": "minilm", "data": {"train": str(folder), "bad_rows": "skip"}}
    if name == "multi30k":
        values["task"] = {"name": "translation", "source_language": "en", "target_language": "de"}
        values["data"]["columns"] = {"source": "en", "target": "de"}
    else:
        guess = infer(folder, {})
        values["task"], values["data"]["columns"] = guess.task, guess.columns
    recipe = build(values)
    assert recipe.task is not None
    found = splits.load(recipe, make_plugin("tasks", recipe.task.name, recipe.task.options()))
    return {split: list(rows) for split, rows in found.rows.items()}, recipe.task.name


def in_train(plant: Callable[[Sequence[Row]], planted.Planted]) -> Callable[[Splits], Any]:
    """A defect of training rows."""

    def both(rows: Splits) -> tuple[Splits, set[int]]:
        made, wanted = plant(rows["train"])
        return {**rows, "train": made}, wanted

    return both


def exact_leaks(rows: Splits) -> tuple[Splits, set[int]]:
    """Fifty training rows in test too."""
    more = [planted.changed(row, k) for k, row in enumerate(random.Random(1).sample(rows["train"], 50))]
    made, wanted = planted.joined(rows["test"], more)
    return {**rows, "test": made}, wanted


def near_leaks(rows: Splits) -> tuple[Splits, set[int]]:
    """A hundred near copies of training rows in test."""
    made, wanted = planted.near_duplicates(rows["train"], "text", 100, seed=2)
    test, ids = planted.joined(rows["test"], [made[k] for k in sorted(wanted)])
    return {**rows, "test": test}, ids


def group_leaks(rows: Splits) -> tuple[Splits, set[int]]:
    """A hundred test rows about paragraphs of training rows."""
    made, wanted = planted.shared_contexts(rows["train"], rows["test"], "context", 100, seed=3)
    return {**rows, "test": made}, wanted


def strangers(rows: Sequence[Row]) -> planted.Planted:
    """Fifty German sentences among others."""
    german = [row["label_references"][0] for row in rows_of("multi30k")[0]["train"][:50]]
    return planted.joined(rows, [planted.changed(rows[k], k, text=text) for k, text in enumerate(german)])


def broken(rows: Sequence[Row]) -> planted.Planted:
    """Forty texts with umlauts, read in the wrong encoding."""
    chosen = [row for row in rows if any(mark in row["text"] for mark in "äöüß")][:40]
    return planted.joined(
        rows,
        [planted.changed(row, k, text=row["text"].encode().decode("latin-1")) for k, row in enumerate(chosen)],
    )


def long_and_short(rows: Sequence[Row]) -> planted.Planted:
    """Ten rows of which each is sixty others, and ten of a letter."""
    long = ["\n".join(row["text"] for row in rows[60 * k : 60 * k + 60]) for k in range(10)]
    return planted.joined(
        rows, [planted.changed(rows[k], k, text=text) for k, text in enumerate([*long, *"abcdefghij"])]
    )


def turned(rows: Sequence[Row]) -> planted.Planted:
    """Sixty chats with a turn too many, or the system's in the midst."""
    made: list[Row] = []
    wanted: set[int] = set()
    for k, row in enumerate(rows):
        if k % 3 == 0 and len(wanted) < 60:
            messages = list(row["messages"])
            extra = [{"role": "user", "content": "and one more thing"}, {"role": "system", "content": "be brief"}][
                k % 2
            ]
            row = replace(row, values={**row.values, "messages": [*messages[:1], extra, *messages[1:]]})
            wanted.add(k)
        made.append(replace(row, id=k))
    return made, wanted


def emptied(rows: Sequence[Row]) -> planted.Planted:
    """Forty summaries of dots."""
    made = [
        replace(row, id=k, values={**row.values, "label_references": ["..."]}) if k % 30 == 0 and k < 1200 else row
        for k, row in enumerate(rows)
    ]
    return made, set(range(0, min(1200, len(rows)), 30))


def left_alone(rows: Sequence[Row]) -> planted.Planted:
    """Sixty translations that are their sources."""
    made = [
        replace(row, id=k, values={**row.values, "label_references": [row["source"]]})
        if k % 100 == 0 and k < 6000
        else row
        for k, row in enumerate(rows)
    ]
    return made, set(range(0, min(6000, len(rows)), 100))


def pictures(rows: Sequence[Row]) -> planted.Planted:
    """Sixty pictures saved again, at another size, or brighter."""
    from PIL import Image, ImageEnhance

    work = work_folder("doctor-pictures")
    rng = random.Random(0)
    copies = []
    for k, row in enumerate(rng.sample(list(rows), 60)):
        with Image.open(row["image"]) as file:
            picture: Any = file.convert("RGB")
        target = work / f"{k}.jpg"
        if k % 3 == 1:
            picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
        elif k % 3 == 2:
            picture = ImageEnhance.Brightness(picture).enhance(1.12)
        picture.save(target, quality=rng.randrange(40, 71) if k % 3 == 0 else 90)
        copies.append(planted.changed(row, k, image=str(target), image_sha256=f"planted {k}"))
    return planted.joined(rows, copies)


def pieces(make: Callable[[], list[str]]) -> Callable[[Sequence[Row]], planted.Planted]:
    """Pieces in texts."""
    return lambda rows: planted.with_pieces(rows, "text", make(), seed=4)


def cut_answers(folder: Path) -> tuple[Path, set[int], str]:
    """Chats of alpaca with room for their answers, and forty of which the answer does not fit: (file, lines, task)."""
    rows = [row for row in rows_of("alpaca")[0]["train"] if sum(len(str(m["content"])) for m in row["messages"]) < 600][
        :400
    ]
    filler = " ".join(str(row["messages"][0]["content"]) for row in rows[:60])
    lines = []
    for k, row in enumerate(rows):
        *asked, last = row["messages"]
        if k % 10 == 3:
            last = {**last, "content": f"{last['content']} {filler[: 4000 + 10 * k]}"}
        lines.append({"messages": [*asked, last]})
    return _written(folder, lines), {k + 1 for k in range(len(rows)) if k % 10 == 3}, "chat"


def cut_texts(folder: Path) -> tuple[Path, set[int], str]:
    """Sentences of sst2, and sixty of them each twenty sentences long."""
    rows = rows_of("sst2")[0]["train"][:1200]
    lines = [
        {
            "text": " ".join(row["text"] for row in rows[k : k + 20]) if k % 20 == 7 else row["text"],
            "label": row["label"],
        }
        for k, row in enumerate(rows)
    ]
    return _written(folder, lines), {k + 1 for k in range(len(rows)) if k % 20 == 7}, "text-classification"


def unusable(folder: Path) -> tuple[Path, set[int], str]:
    """Sentences of sst2, of which sixty have no text, no label, or half a character."""
    rows = rows_of("sst2")[0]["train"][:1200]
    lines: list[dict[str, Any]] = [{"text": row["text"], "label": row["label"]} for row in rows]
    for k in range(7, 1200, 20):
        lines[k] = {**lines[k], **({"text": "  "}, {"label": None}, {"text": "cut \ud83d"})[k % 3]}
    return _written(folder, lines), set(range(8, 1201, 20)), "text-classification"


def _written(folder: Path, lines: Sequence[dict[str, Any]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def behind_a_prompt(rows: Sequence[Row]) -> planted.Planted:
    """Two hundred near copies, and every text behind one prompt."""
    made, wanted = planted.near_duplicates(rows, "text", 200, seed=5)
    return [replace(row, values={**row.values, "text": PROMPT + str(row["text"])}) for row in made], wanted


def copied(rows: Sequence[Row]) -> planted.Planted:
    """A hundred rows again."""
    chosen = random.Random(6).sample(list(rows), 100)
    return planted.joined(rows, [planted.changed(row, k) for k, row in enumerate(chosen)])


def contradicted(rows: Sequence[Row]) -> planted.Planted:
    """Fifty rows again with another label; both of the two are reported."""
    labels = sorted({row["label"] for row in rows})
    chosen = random.Random(7).sample(list(rows), 50)
    other = [labels[(labels.index(row["label"]) + 1) % len(labels)] for row in chosen]
    made, wanted = planted.joined(
        rows, [planted.changed(row, k, label=label) for k, (row, label) in enumerate(zip(chosen, other, strict=True))]
    )
    return made, wanted | {row.id for row in chosen}


def unseen(rows: Splits) -> tuple[Splits, set[int]]:
    """Thirty test rows with a label that no training row has."""
    test = [
        replace(row, values={**row.values, "label": "unseen"}) if k < 30 else row for k, row in enumerate(rows["test"])
    ]
    return {**rows, "test": test}, set(range(30))


def rare(rows: Sequence[Row]) -> planted.Planted:
    """Four rows of a label of their own."""
    return planted.joined(rows, [planted.changed(rows[k], k, label="rare") for k in range(4)])


def uneven(rows: Sequence[Row]) -> planted.Planted:
    """Of one label twenty rows are left."""
    label = rows[0]["label"]
    chosen = [row for row in rows if row["label"] == label]
    made, _ = planted.joined([row for row in rows if row["label"] != label], chosen[:20])
    return made, {row.id for row in made if row["label"] == label}


def said(kind: str) -> Callable[[Sequence[Row]], planted.Planted]:
    """Answers of chats: copies of the question, behind a system message, or the same for half of all."""

    def answer(k: int, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        words = {"copy": messages[-2]["content"], "constant": "I cannot help you with that today."}[kind]
        system = [{"role": "system", "content": "You are a friendly assistant."}] if kind == "copy" else []
        return [*system, *messages[:-1], {**messages[-1], "content": words}]

    def plant(rows: Sequence[Row]) -> planted.Planted:
        every = {"copy": 100, "constant": 2}[kind]
        made = [
            replace(row, values={**row.values, "messages": answer(k, row["messages"])}) if k % every == 0 else row
            for k, row in enumerate(rows)
        ]
        return made, set(range(0, len(rows), every))

    return plant


def one_worded(rows: Sequence[Row]) -> planted.Planted:
    """Twenty summaries of a word."""
    made = [
        replace(row, id=k, values={**row.values, "label_references": ["Nothing."]}) if k % 50 == 0 and k < 1000 else row
        for k, row in enumerate(rows)
    ]
    return made, set(range(0, 1000, 50))


def foreign(rows: Splits) -> tuple[Splits, set[int]]:
    """A third of the test rows in German, and no training row."""
    german = [row["label_references"][0] for row in rows_of("multi30k")[0]["train"]]
    german = [text for text in german if len(text.split()) >= 12][: len(rows["test"]) // 2]
    test, wanted = planted.joined(
        rows["test"], [planted.changed(rows["test"][k], k, text=text) for k, text in enumerate(german)]
    )
    return {**rows, "test": test}, wanted


def in_arabic(rows: Sequence[Row]) -> planted.Planted:
    """Forty Arabic posts among others."""
    texts = [row["text"] for row in rows_of("umsab_multilingual")[0]["train"]]
    arabic = [text for text in texts if sum("\u0600" <= c <= "\u06ff" for c in text) > len(text) / 2][:40]
    return planted.joined(rows, [planted.changed(rows[k], k, text=text) for k, text in enumerate(arabic)])


def mixed_up(rows: Sequence[Row]) -> planted.Planted:
    """All labels dealt out anew."""
    labels = [row["label"] for row in rows]
    random.Random(8).shuffle(labels)
    made = [replace(row, values={**row.values, "label": label}) for row, label in zip(rows, labels, strict=True)]
    return made, {row.id for row in made}
