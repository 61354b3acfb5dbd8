"""What is planted is found, what is harmless is not, and nothing that a row may hold makes a check fail."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bench import planted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import plugins
from tunesmith.contracts import Row
from tunesmith.doctor.case import Case
from tunesmith.doctor.examine import examine
from tunesmith.doctor.finding import Finding
from tunesmith.errors import RecipeError

SUBJECTS = ["card", "parcel", "invoice", "account", "password", "lamp", "router", "garden", "ticket", "window", "oven"]
VERBS = ["arrived", "broke", "vanished", "changed", "stopped", "flickered", "leaked", "expired", "returned", "doubled"]
TAILS = ["yesterday evening", "after the update", "before I called you", "in the second week", "without a warning"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences, of which no two are nearly the same."""
    rng = random.Random(seed)
    made = []
    for k in range(count):
        fill = " ".join(planted._word(rng) for _ in range(5))
        made.append(f"My {SUBJECTS[k % 11]} {VERBS[k // 11 % 10]} {TAILS[k // 110 % 5]} and {fill} {k}")
    return made


def text_rows(count: int, seed: int = 0, **more: Any) -> list[Row]:
    return [
        Row(k, {"text": text, "label": "ab"[k % 2], "label_type": "str", **more}, "f.jsonl", k + 1)
        for k, text in enumerate(sentences(count, seed))
    ]


def chat_rows(chats: Sequence[Sequence[tuple[str, str]]]) -> list[Row]:
    return [
        Row(k, {"messages": [{"role": role, "content": words} for role, words in chat]}, "c.jsonl", k + 1)
        for k, chat in enumerate(chats)
    ]


def found_by(check: str, rows: Mapping[str, Sequence[Row]], task: str = "") -> list[Finding]:
    found: list[Finding] = plugins.load("checks", check).find(Case(rows, task=task))
    return found


def ids(findings: Sequence[Finding], kind: str, split: str = "train") -> set[int]:
    return {k for finding in findings if finding.kind == kind for name, k in finding.rows if name == split}


def shares(wanted: set[int], found: set[int]) -> tuple[float, float]:
    """(precision, recall)"""
    hit = len(wanted & found)
    return hit / max(len(found), 1), hit / max(len(wanted), 1)


def test_near_copies_are_found_and_no_others_and_what_is_removed_leaves_one_of_each() -> None:
    rows, wanted = planted.near_duplicates(text_rows(600), "text", 100, seed=3)
    found = found_by("near-duplicates", {"train": rows})
    precision, recall = shares(wanted, ids(found, "near-duplicate"))
    assert precision == 1 and recall >= 0.95
    (finding,) = found
    left = [row for row in rows if row.id not in finding.remove]
    assert ids(found_by("near-duplicates", {"train": left}), "near-duplicate") == set()
    assert len(left) >= 600


def test_near_copies_across_a_split_are_leaks_of_the_later_one_and_train_is_what_is_mended() -> None:
    train = text_rows(300)
    rng = random.Random(1)
    test = [planted.changed(train[k], k, text=planted.near_copy(train[k]["text"], rng)) for k in range(0, 60, 2)]
    (finding,) = found_by("near-duplicates", {"train": train, "test": [*text_rows(100, seed=9), *test]})
    assert finding.split == "train/test" and {name for name, _ in finding.rows} == {"test"}
    assert shares(set(range(0, 60, 2)), set(finding.remove)) >= (1.0, 0.95)


def test_another_question_about_the_same_text_is_no_near_copy() -> None:
    rows = [
        Row(k, {"question": question, "context": "The canal was dug in 1832 by hand and took nine years. " * 4}, "f", k)
        for k, question in enumerate(["Who dug it?", "When was the canal dug?", "How long did the works take in all?"])
    ]
    assert found_by("near-duplicates", {"train": rows}) == []


def test_rows_alike_with_another_label_are_said_and_kept() -> None:
    rows = text_rows(60)
    twin = planted.changed(rows[4], 0, text=rows[4]["text"].upper() + "!", label="b")
    (finding,) = found_by("near-duplicates", {"train": [*rows, planted.replace(twin, id=60)]})
    assert finding.remove == () and "another label" in finding.why


def test_templated_rows_neither_take_long_nor_fill_memory() -> None:
    rows = [
        Row(
            k, {"text": f"Order {k} was sent to the address that you gave us when you opened your account here"}, "f", k
        )
        for k in range(4000)
    ]
    (finding,) = found_by("near-duplicates", {"train": rows})
    assert finding.count > 3000 and "not all of their pairs" in finding.hint


def test_contexts_on_both_sides_are_all_found_and_prompts_that_all_rows_share_are_not() -> None:
    def asked(k: int, number: int) -> dict[str, Any]:
        return {"question": f"what is {number}", "context": f"{sentences(200)[k]}", "label_answers": []}

    train = [Row(k, asked(k % 90, k), "f", k) for k in range(180)]
    test = [Row(k, asked(100 + k % 50, 500 + k), "g", k) for k in range(100)]
    assert found_by("groups", {"train": train, "test": test}) == []
    made, wanted = planted.shared_contexts(train, test, "context", 20, seed=5)
    found = found_by("groups", {"train": train, "test": made})
    assert ids(found, "group-leak", "test") == wanted
    assert "data.split.group: context" in found[0].hint
    prompt = [planted.replace(row, values={**row.values, "context": "Answer in one short sentence."}) for row in train]
    again = [planted.replace(row, values={**row.values, "context": "Answer in one short sentence."}) for row in test]
    assert found_by("groups", {"train": prompt, "test": again}) == []


def test_a_named_group_on_both_sides_is_found_whatever_it_is() -> None:
    train = [planted.replace(row, values={**row.values, "beside_group": row.id % 40}) for row in text_rows(100)]
    test = [planted.replace(row, values={**row.values, "beside_group": 38 + row.id}) for row in text_rows(10, seed=4)]
    assert ids(found_by("groups", {"train": train, "test": test}), "group-leak", "test") == {0, 1}


def test_wrong_labels_are_among_the_most_suspect_and_right_ones_are_not_reported() -> None:
    words = {"billing": "invoice refund charge payment price", "login": "password account login code sign", "parcel":
             "parcel courier delivery address package"}  # fmt: skip
    rng = random.Random(0)
    rows = []
    for k in range(450):
        label = list(words)[k % 3]
        text = " ".join(rng.choices(words[label].split(), k=4) + rng.choices(SUBJECTS + VERBS, k=4))
        rows.append(Row(k, {"text": f"{text} {k}", "label": label}, "f", k))
    assert found_by("label-noise", {"train": rows}) == []
    noisy, wrong = planted.wrong_labels(rows, 0.08, seed=2)
    found = found_by("label-noise", {"train": noisy})
    precision, recall = shares(wrong, ids(found, "label-noise"))
    assert precision >= 0.95 and recall >= 0.7
    assert found[0].remove == () and "looks like" in found[0].examples[0].shown
    shuffled = random.Random(7).sample(noisy, len(noisy))
    again = found_by("label-noise", {"train": [planted.replace(row, id=k) for k, row in enumerate(shuffled)]})
    assert {row["text"] for row in (shuffled[k] for k in ids(again, "label-noise"))} == {
        noisy[k]["text"] for k in ids(found, "label-noise")
    }


def topics(count: int, copies: int = 0) -> list[Row]:
    """Rows whose labels can be told by their words; the first of them stand several times."""
    words = {"billing": "invoice refund charge payment price", "login": "password account login code sign", "parcel":
             "parcel courier delivery address package"}  # fmt: skip
    rng = random.Random(0)
    rows = []
    for k in range(count):
        label = list(words)[k % 3]
        text = " ".join(rng.choices(words[label].split(), k=4) + rng.choices(SUBJECTS + VERBS, k=4))
        rows += [Row(len(rows) + n, {"text": text, "label": label}, "f", k) for n in range(1 + 2 * (k < copies))]
    return rows


def test_wrong_labels_of_rows_that_stand_several_times_are_found() -> None:
    rows = topics(400, copies=20)
    for row in rows[:30]:
        row.values["label"] = {"billing": "login", "login": "parcel", "parcel": "billing"}[row["label"]]
    found = found_by("label-noise", {"train": rows})
    precision, recall = shares(set(range(30)), ids(found, "label-noise"))
    assert precision >= 0.9 and recall >= 0.7


def test_a_label_of_few_rows_does_not_silence_the_others_and_is_not_told_itself() -> None:
    rows, wrong = planted.wrong_labels(topics(450), 0.08, seed=2)
    few = [Row(len(rows) + k, {"text": "one and the same words", "label": "rare"}, "f", k) for k in range(12)]
    found = found_by("label-noise", {"train": [*rows, *few]})
    precision, recall = shares(wrong, ids(found, "label-noise"))
    assert precision >= 0.95 and recall >= 0.8


def test_of_very_many_labels_the_commonest_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.doctor.checks import label_noise

    seen: list[int] = []

    def counted(texts: Sequence[str], labels: Any, classes: int, seed: int) -> None:
        seen.append(classes)
        assert len(texts) * classes <= label_noise._WORK

    monkeypatch.setattr(label_noise, "out_of_fold", counted)
    rows = [Row(k, {"text": f"words {k} of it", "label": f"label {k % 500}"}, "f", k) for k in range(6000)]
    assert found_by("label-noise", {"train": rows}) == [] and seen == [316]


@pytest.mark.parametrize("shares_of", [[1, 1, 1], [8, 1, 1]])
def test_labels_that_were_mixed_up_are_said_to_be_so_and_none_is_called_wrong(shares_of: list[int]) -> None:
    rng = random.Random(3)
    labels = rng.choices("abc", shares_of, k=900)
    rows = [planted.replace(row, values={**row.values, "label": labels[row.id]}) for row in topics(900)]
    (finding,) = found_by("label-noise", {"train": rows})
    assert finding.kind == "unrelated-labels" and finding.count == 900 and not finding.remove
    assert found_by("label-noise", {"train": rows[:300]}) == []  # too few to say so
    assert [f.kind for f in found_by("label-noise", {"train": topics(900)})] == []


@pytest.mark.parametrize("kind", ["emails", "cards", "ibans", "phones"])
def test_personal_data_is_found_and_never_shown(kind: str) -> None:
    pieces = getattr(planted, kind)(60, 1)
    rows, wanted = planted.with_pieces(text_rows(200), "text", pieces, seed=1)
    (finding,) = found_by("personal", {"train": rows})
    assert ids([finding], "personal-data") == wanted
    for spot in finding.examples:
        assert not any(piece in spot.shown for piece in pieces) and "*" in spot.shown


def test_dates_prices_versions_and_wrong_check_digits_are_no_personal_data() -> None:
    rows, _ = planted.with_pieces(text_rows(400), "text", planted.harmless(300, 3), seed=1)
    assert found_by("personal", {"train": rows}) == []


def test_marks_of_templates_are_found_in_questions_and_answers_and_html_is_left_alone() -> None:
    rows, wanted = planted.with_pieces(text_rows(60), "text", planted.MARKS, seed=2)
    assert ids(found_by("templates", {"train": rows}), "template-tokens") == wanted
    said = ["### Instruction: sort it", "Human: hello there", "so it is</s>"]
    chats = chat_rows([[("user", "hello"), ("assistant", text)] for text in said])
    assert ids(found_by("templates", {"train": chats}), "template-tokens") == {0, 1, 2}
    fine = [
        "<b>bold</b> and <s>struck</s> text",
        "the human: a study",
        "a [mask] of wood",
        "x <y> z",
        "#1 instruction: go",
    ]
    assert found_by("templates", {"train": chat_rows([[("user", t), ("assistant", "ok")] for t in fine])}) == []


@pytest.mark.parametrize(
    ("roles", "fault"),
    [
        (["user", "assistant"], ""),
        (["system", "user", "assistant", "user", "assistant"], ""),
        (["developer", "user", "assistant"], ""),
        (["user", "assistant", "tool", "assistant"], ""),
        (["user", "assistant", "tool", "tool", "assistant", "user", "assistant"], ""),
        (["user", "system", "assistant"], "system message"),
        (["user", "user", "assistant"], "two turns of the user"),
        (["user", "assistant", "assistant"], "two turns of the assistant"),
        (["assistant", "user", "assistant"], "first turn"),
        (["user", "assistant", "user"], "last turn"),
        (["user", "tool", "assistant"], "not called"),
    ],
)
def test_the_order_of_turns_is_looked_at(roles: list[str], fault: str) -> None:
    found = found_by("chats", {"train": chat_rows([[(role, "find(words: [some])") for role in roles]])})
    assert [fault in finding.why for finding in found] == ([True] if fault else [])


def test_answers_that_teach_nothing_are_found_and_short_ones_where_they_are_usual_are_not() -> None:
    chats = [[("user", text), ("assistant", f"That is because {text}")] for text in sentences(100)]
    chats[3][1] = ("assistant", " ... ")
    chats[7][1] = ("assistant", "No.")
    chats[9][1] = ("assistant", chats[9][0][1])
    found = found_by("targets", {"train": chat_rows(chats)})
    assert {finding.kind: ids([finding], finding.kind) for finding in found} == {
        "empty-target": {3}, "one-word-target": {7}, "copied-target": {9},
    }  # fmt: skip
    assert [finding.remove for finding in found if finding.kind == "empty-target"] == [(3,)]
    words = [
        [("user", text), ("assistant", "Yes." if k % 9 else "That is not how it was at all")]
        for k, text in enumerate(sentences(100))
    ]
    assert [finding.kind for finding in found_by("targets", {"train": chat_rows(words)})] == ["constant-target"]


def test_texts_of_another_length_or_script_or_encoding_are_found() -> None:
    rows = text_rows(300)
    odd = {
        5: "no",
        6: " ".join(sentences(200)),
        7: "где моя посылка и почему она не пришла",
        8: "wo ist mein GepÃ¤ck geblieben am Abend",
    }
    rows = [planted.replace(row, values={**row.values, "text": odd.get(row.id, row["text"])}) for row in rows]
    found = found_by("outliers", {"train": rows})
    assert ids(found, "length-outlier") == {5, 6}
    assert ids(found, "script-outlier") == {7}
    assert ids(found, "mojibake") == {8}


def test_a_wrong_encoding_is_found_in_answers_and_capitals_before_a_dash_are_none() -> None:
    rows = chat_rows([[("user", text), ("assistant", f"that is {text}")] for text in sentences(60)])
    said = {4: "es ist schÃ¶n hier", 5: "ATÉ AMANHÃ… e boa noite", 6: "“NÃO” – MANHÃ’ disse", 7: "un cafÃ© por favor"}
    for k, words in said.items():
        rows[k].values["messages"][1]["content"] = words
    found = found_by("outliers", {"train": rows})
    assert ids(found, "mojibake") == {4, 7}
    assert any("schÃ¶n" in spot.shown for finding in found for spot in finding.examples)


def test_numbers_of_books_and_of_films_are_no_telephone_numbers() -> None:
    said = ["ISBN 978-3-16-148410-0", "ISBN: 0306-459-1234", "call 555-0199 or (212) 555-7834", "978-0-306-40615-7"]
    rows = [Row(k, {"text": f"read it in {text} today"}, "f", k) for k, text in enumerate(said)]
    assert found_by("personal", {"train": rows}) == []
    real = [Row(0, {"text": "call (212) 736-5000 today"}, "f", 0)]
    assert ids(found_by("personal", {"train": real}), "personal-data") == {0}


def test_calls_of_tools_have_no_words_and_are_no_answer_learned_by_heart() -> None:
    calls = [{"type": "function", "function": {"name": "find", "arguments": {"place": "x"}}}]
    rows = chat_rows([[("user", text), ("assistant", "")] for text in sentences(60)])
    for row in rows:
        row.values["messages"][1]["tool_calls"] = calls
    assert found_by("targets", {"train": rows}) == []
    rows[7].values["messages"].append({"role": "tool", "content": "found"})
    assert found_by("chats", {"train": rows}) == []
    del rows[7].values["messages"][1]["tool_calls"]
    rows[7].values["messages"][1]["content"] = "let me look"
    (finding,) = found_by("chats", {"train": rows})
    assert ids([finding], "role-order") == {7} and "not called" in finding.why
    rows[7].values["messages"][1]["content"] = '<tool_call>{"name": "find"}</tool_call>'
    assert found_by("chats", {"train": rows}) == []


def test_an_answer_that_is_the_question_again_is_found_behind_what_the_system_says() -> None:
    system = ("system", "You answer customers of a shop.")
    chats = [[system, ("user", text), ("assistant", f"That is because {text}")] for text in sentences(40)]
    chats[9][2] = ("assistant", chats[9][1][1])
    assert ids(found_by("targets", {"train": chat_rows(chats)}), "copied-target") == {9}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ذهبت إلى المدرسة في الصباح وكانت الشمس مشرقة", "Arabic"),
        ("وصلنا اليوم الى البيت وكان الطريق طويلا", "Arabic"),
        ("من امروز به مدرسه رفتم و هوا خیلی گرم بود", "Persian"),
        ("میں آج اسکول گیا اور موسم بہت اچھا تھا", "Urdu"),
        ("محمد", ""),
    ],
)
def test_languages_of_one_script_are_told_by_their_letters(text: str, name: str) -> None:
    from tunesmith.doctor.language import language

    assert language(text) == name


def test_a_later_split_in_a_language_that_train_is_not_in_is_found() -> None:
    german = [Row(k, {"text": f"das Gerät ist nach dem Umzug nicht mehr zu finden {k}"}, "f", k) for k in range(60)]
    english = [Row(k, {"text": f"the screen of my phone was broken when it came to us {k}"}, "f", k) for k in range(60)]
    found = found_by("languages", {"train": english, "test": [*english[:20], *german[:20]]})
    assert {(f.kind, f.split, f.count) for f in found} == {("language-shift", "test", 20)}
    assert "German (50%, in train 0%)" in found[0].why
    assert found_by("languages", {"train": [*english[:30], *german[:30]], "test": german[:40]}) == []
    assert found_by("languages", {"train": english, "test": german[:9]}) == []


def test_a_few_rows_in_another_language_are_found_and_a_second_language_is_none() -> None:
    german = [
        "ich warte noch auf mein Paket und habe keine Antwort",
        "das Gerät ist nach dem Umzug nicht mehr zu finden",
    ]
    english = [
        "I am still waiting for the parcel and there is no answer",
        "the screen of my phone was broken when it came to us",
    ]
    rows = [Row(k, {"text": f"{english[k % 2]} {k}"}, "f", k) for k in range(100)]
    rows += [Row(100 + k, {"text": german[k]}, "f", 100 + k) for k in range(2)]
    (finding,) = found_by("languages", {"train": rows})
    assert ids([finding], "language-mix") == {100, 101} and "German (2)" in finding.why
    half = rows[:50] + [Row(50 + k, {"text": f"{german[k % 2]} {k}"}, "f", k) for k in range(50)]
    assert found_by("languages", {"train": half}) == []


def test_a_translation_left_in_its_source_language_is_found() -> None:
    def row(k: int, target: str) -> Row:
        source = f"there is a dog in the garden and it was not seen by us {k}"
        return Row(k, {"source": source, "label_references": [target]}, "f", k)

    rows = [row(k, f"ein Hund ist im Garten und wir haben ihn nicht gesehen {k}") for k in range(40)]
    rows[9] = row(9, "there is a dog in the garden and it was not seen by us")
    found = found_by("languages", {"train": rows}, "translation")
    assert ids(found, "untranslated") == {9}


def test_a_picture_saved_again_smaller_or_brighter_is_found_and_other_pictures_are_not(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image, ImageEnhance, ImageFilter

    rng = np.random.default_rng(0)
    pictures = []
    for k in range(40):
        coarse = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8).astype(np.uint8))
        pictures.append(coarse.resize((96, 96), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2)))
        pictures[-1].save(tmp_path / f"{k}.png")
    pictures[1].save(tmp_path / "40.jpg", quality=40)
    pictures[2].resize((48, 48)).save(tmp_path / "41.png")
    ImageEnhance.Brightness(pictures[3]).enhance(1.12).save(tmp_path / "42.png")
    Image.new("RGB", (50, 50), "red").save(tmp_path / "43.png")
    Image.new("RGB", (60, 60), "blue").save(tmp_path / "44.png")
    (tmp_path / "45.png").write_bytes(b"no picture")
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.stem))
    rows = [
        Row(k, {"image": str(f), "image_sha256": hashlib.sha256(f.read_bytes()).hexdigest(), "label": "a"}, str(f), 0)
        for k, f in enumerate(files)
    ]
    found = found_by("image-copies", {"train": rows})
    assert ids(found, "near-duplicate-image") == {40, 41, 42}
    assert set(found[0].remove) == {40, 41, 42}
    split = {"train": rows[:40], "test": [planted.replace(row, id=k) for k, row in enumerate(rows[40:])]}
    across = found_by("image-copies", split)
    assert ids(across, "near-duplicate-image", "test") == {0, 1, 2} and set(across[0].remove) == {1, 2, 3}


words = st.text(max_size=40) | st.sampled_from(
    ["", " ", "\u202e", "🙂" * 9, "a" * 5000, "١٢٣ ٤٥٦", "+49 30 1234567", "<|im_start|>"]
)
plain_row = st.fixed_dictionaries({"text": words}, optional={"label": st.sampled_from("abc"), "text_b": words})
chat_row = st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"])},
                                                optional={"content": words | st.none()}), max_size=5)}
)  # fmt: skip


@given(
    st.lists(plain_row, max_size=14) | st.lists(chat_row, max_size=8),
    st.integers(0, 3),
    st.sampled_from(["", "translation"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_row_makes_a_check_fail_and_every_finding_is_about_rows_that_are_there(
    values: list[dict[str, Any]], held: int, task: str
) -> None:
    rows = [Row(k, value, "f", k + 1) for k, value in enumerate(values)]
    train = rows[held:] or rows
    parts = {"train": [planted.replace(row, id=k) for k, row in enumerate(train)], "test": rows[:held]}
    for finding in examine(Case(parts, task=task)):
        assert finding.count and finding.why and finding.hint and finding.examples
        assert all(0 <= k < len(parts[split]) for split, k in finding.rows)
        assert set(finding.remove) <= set(range(len(parts["train"])))
        assert all("\n" not in spot.shown for spot in finding.examples)


def test_checks_are_found_by_name_and_a_wrong_name_is_refused() -> None:
    assert {"copies", "near-duplicates", "label-noise", "personal"} <= set(plugins.names("checks"))
    with pytest.raises(RecipeError, match="there is no check `copys`"):
        plugins.load("checks", "copys")


def test_of_very_many_rows_a_sample_is_looked_at_and_found_rows_are_named_by_their_own_ids() -> None:
    rows = text_rows(400)
    rows[399] = planted.replace(rows[399], values={**rows[399].values, "text": "write to jane.miller@mailbox.org"})
    found = examine(Case({"train": rows}), most=60)
    assert ids(found, "personal-data") == {399}
    assert {finding.of for finding in found if finding.kind == "personal-data"} == {60}
