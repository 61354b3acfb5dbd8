"""Words with tags, and spans of texts, that cannot be learned."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from refusals import SKIP, Bad, check

GOOD = "".join(f"{name} B-PER\nlives O\nin O\n{town} B-LOC\n\n" for name, town in
               [(f"anna{k}", f"rome{k}") for k in range(20)])  # fmt: skip

CONLL: dict[str, Bad] = {
    "empty": Bad("", "the file is empty", "<here>/rows.conll"),
    "only empty lines": Bad("\n\n \n", "the file has no rows", "<here>/rows.conll"),
    "only a mark of a document": Bad(
        "-DOCSTART- -X- O\n\n", "the file has no rows", "<here>/rows.conll", twin="lines, but of no sentence"
    ),
    "a word without a tag": Bad(
        GOOD + "anna\nlives O\n",
        "line 101 has a word without a tag",
        "<here>/rows.conll:101",
        "give every word and its tag, with a tab or spaces between; " + SKIP,
    ),
    "a tag without a word": Bad(
        GOOD + "\tB-PER\nlives\tO\n",
        "line 101 has a tag without a word",
        "<here>/rows.conll:101",
        "give every word and its tag, with a tab or spaces between; " + SKIP,
    ),
    "more columns in one line": Bad(
        GOOD + "anna B-PER\nlives VBZ O\n",
        "line 102 has 3 columns, nearly all others have 2",
        "<here>/rows.conll:101",
        "put a tab between columns where a word has spaces in it; " + SKIP,
    ),
    "more columns in one sentence": Bad(
        GOOD + "anna NNP I-NP B-PER\nlives VBZ I-VP O\n",
        "line 101 has 4 columns, nearly all others have 2",
        "<here>/rows.conll:101",
        "put a tab between columns where a word has spaces in it; " + SKIP,
    ),
    "a small o": Bad(
        GOOD + "anna B-PER\nlives o\n",
        "the tag `o` is written small; write `O`, and prefixes large",
        "<here>/rows.conll:101",
        SKIP,
    ),
    "a zero for an O": Bad(
        GOOD + "anna B-PER\nlives 0\n",
        "the tag `0` has no prefix and others have; write `B-0` or `I-0`",
        "<here>/rows.conll:101",
        SKIP,
    ),
    "tags with a prefix and without": Bad(
        GOOD + "anna PER\nlives O\nrome B-LOC\n",
        "the tag `PER` has no prefix and others have; write `B-PER` or `I-PER`",
        "<here>/rows.conll:101",
        SKIP,
    ),
    "nothing but O": Bad(
        "anna O\nlives O\n\n" * 20, "no training row has an entity; there is nothing to learn", "data.train"
    ),
    "Latin-1": Bad(
        (GOOD + "josé B-PER\n").encode("latin-1"),
        "the file is not UTF-8: byte 0xe9",
        "<here>/rows.conll:101",
        "save it as UTF-8; if it is Latin-1: iconv -f latin1 -t utf-8 rows.conll > utf8-rows.conll",
    ),
    "a NUL": Bad(GOOD + "an\0na B-PER\n", "column `tokens` holds a NUL character", "<here>/rows.conll:101", SKIP),
    "a tab at the end": Bad(
        GOOD.replace(" ", "\t") + "anna\tB-PER\nlives\t\n",
        "tag 2 is empty; a word in no entity has the tag O",
        "<here>/rows.conll:101",
        SKIP,
    ),
    "one sentence": Bad(
        "anna B-PER\nlives O\n",
        "1 rows are too few to set some aside for `validation`",
        "<here>/rows.conll",
        "add rows, or name files in `data.validation` and `data.test`",
    ),
}
"""The text of `rows.conll`."""

TAGS: dict[str, Bad] = {
    "more words than tags": Bad(
        {"tokens": ["anna", "lives"], "tags": ["B-PER"]}, "the row has 2 words and 1 tags", "<here>/rows.jsonl:21", SKIP
    ),
    "no words": Bad({"tokens": [], "tags": []}, "`tokens` is not a list of words", "<here>/rows.jsonl:21", SKIP),
    "words that are a text": Bad(
        {"tokens": "anna", "tags": ["O"]},
        "`tokens` is not a list of words",
        "<here>/rows.jsonl:21",
        SKIP,
        twin="a text has a length too",
    ),
    "tags that are missing": Bad({"tokens": ["anna"]}, "`tags` is missing", "<here>/rows.jsonl:21", SKIP),
    "tags that are a text": Bad(
        {"tokens": ["anna"], "tags": "O"}, "`tags` is not a list of tags", "<here>/rows.jsonl:21", SKIP
    ),
    "tags that are numbers": Bad(
        {"tokens": ["anna"], "tags": [3]},
        "`tags` holds numbers; write the names of the tags",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a tag that is empty": Bad(
        {"tokens": ["anna"], "tags": [" "]},
        "tag 1 is empty; a word in no entity has the tag O",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "neither words nor a text": Bad(
        {"tokens": None, "tags": None}, "the row has neither `tokens` nor a `text`", "<here>/rows.jsonl:21", SKIP
    ),
}
"""Line 21 of a file of words with tags."""

TEXT = "anna lives in rome"
SPANS: dict[str, Bad] = {
    "spans that are missing": Bad(
        {"text": TEXT},
        "the row has a `text` and no `spans`; an empty list says that there is nothing in it",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "spans that are an object": Bad(
        {"text": TEXT, "spans": {"start": 0}}, "`spans` is not a list", "<here>/rows.jsonl:21", SKIP
    ),
    "a span without an end": Bad(
        {"text": TEXT, "spans": [{"start": 0, "label": "PER"}]},
        "span 1 is not {start, end, label} with whole numbers and a name",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a span that is a text": Bad(
        {"text": TEXT, "spans": ["anna"]}, "span 1 is not {start, end, label}", "<here>/rows.jsonl:21", SKIP
    ),
    "a span of four": Bad(
        {"text": TEXT, "spans": [[0, 4, "PER", 1]]},
        "span 1 is not {start, end, label}",
        "<here>/rows.jsonl:21",
        SKIP,
        twin="a list, but too long",
    ),
    "a span behind the end": Bad(
        {"text": TEXT, "spans": [[14, 99, "LOC"]]},
        "span 1 is (14, 99); its text has 18 characters",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a span before the beginning": Bad(
        {"text": TEXT, "spans": [[-4, 18, "LOC"]]},
        "span 1 is (-4, 18); its text has 18 characters",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a span of nothing": Bad(
        {"text": TEXT, "spans": [[5, 5, "LOC"]]},
        "span 1 is (5, 5); its text has 18 characters",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a span turned round": Bad(
        {"text": TEXT, "spans": [[9, 5, "LOC"]]},
        "span 1 is (9, 5); its text has 18 characters",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a span that begins at true": Bad(
        {"text": TEXT, "spans": [[True, 4, "PER"]]},
        "span 1 is not {start, end, label} with whole numbers and a name",
        "<here>/rows.jsonl:21",
        SKIP,
        twin="Python takes true for 1",
    ),
    "a name that is empty": Bad(
        {"text": TEXT, "spans": [[0, 4, ""]]},
        "span 1 is not {start, end, label} with whole numbers and a name",
        "<here>/rows.jsonl:21",
        SKIP,
        twin="one rule for all three",
    ),
    "spans that overlap": Bad(
        {"text": TEXT, "spans": [[0, 10, "A"], [5, 18, "B"]]},
        "two spans overlap; `task.nested: outer` keeps the outer one",
        "<here>/rows.jsonl:21",
        SKIP,
    ),
    "a text that is empty": Bad({"text": "  ", "spans": []}, "`text` is empty", "<here>/rows.jsonl:21", SKIP),
    "a text that is a number": Bad({"text": 3, "spans": []}, "`text` is not a text", "<here>/rows.jsonl:21", SKIP),
}
"""Line 21 of a file of texts with spans."""


def tried(bad: Bad, file: Path, encoder: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--task", "token-classification", "--set", f"run.dir={here / 'runs'}", "--set", "train.steps=1")
    check(bad, capsys, here, "train", str(encoder), str(file), *place)


@pytest.mark.parametrize("case", CONLL)
def test_a_file_of_words_that_cannot_be_used_is_refused_with_its_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = CONLL[case].given
    (tmp_path / "rows.conll").write_bytes(given if isinstance(given, bytes) else given.encode())
    tried(CONLL[case], tmp_path / "rows.conll", encoder, tmp_path, capsys)


@pytest.mark.parametrize("case", TAGS)
def test_words_and_tags_that_do_not_go_together_are_refused_with_their_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good: list[Any] = [{"tokens": ["anna", f"in{k}"], "tags": ["B-PER", "O"]} for k in range(20)]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [*good, TAGS[case].given])
    tried(TAGS[case], file, encoder, tmp_path, capsys)


@pytest.mark.parametrize("case", SPANS)
def test_spans_that_mark_nothing_in_their_text_are_refused_with_their_line(
    case: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good: list[Any] = [{"text": f"anna lives in rome {k}", "spans": [[0, 4, "PER"]]} for k in range(20)]
    file = tiny.write_jsonl(tmp_path / "rows.jsonl", [*good, SPANS[case].given])
    tried(SPANS[case], file, encoder, tmp_path, capsys)
