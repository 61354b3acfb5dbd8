"""The page of `tunesmith check`: whole HTML, every token once and in order, nothing of the rows is markup; and in a
real browser, where one is installed, it fits a phone and a desktop and runs nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

import samples
import tiny
from tunesmith import checkup, cli, plugins, recipefile
from tunesmith.report import checkpage
from tunesmith.report.pagetext import visible
from tunesmith.report.tokenview import RowView, views
from tunesmith.results import SHAPES

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FAMILIES = ("encoder", "decoder", "encoder-decoder", "vision")
VOID = {"meta", "img", "br", "rect", "line"}
KINDS = ("trained", "masked", "cut")
ATTACK = (
    "<script>top.ran=1;document.title='ran'</script><img src=x onerror=\"top.ran=1\"></p></td>{{ 7*7 }}'\" "
    "onload='top.ran=1'"
)
"""It would tell the page around it."""
CONTROL = (
    "<title>check: x</title><body style='margin:0'><div style='width:500px'>x</div>"
    "<script>document.title='ran'</script>"
)
"""A page that overflows on a phone, and runs: what the probe must notice."""
MARKUP = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "div", "h1", "h2", "h3",
    "h4", "p", "ul", "li", "dl", "dt", "dd", "a", "b", "i", "strong", "small", "code", "span", "img", "figure",
    "figcaption", "svg", "rect", "line", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary",
}  # fmt: skip


class Page(HTMLParser):
    """A page's tokens, marks, elements and text; every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[tuple[str, str, str]] = []
        self.titles: list[str] = []
        self.words: list[str] = []
        self.within: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.elements.append((tag, said))
        if tag == "span" and (said.get("class") or "").startswith(KINDS):
            self.tokens.append((said["class"] or "", "", said["title"] or ""))
        if tag not in VOID:
            self.open.append(tag)
            self.within.append(said)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open.pop() == tag, f"{tag} closes what is not open"
        self.within.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] == "span" and (self.within[-1].get("class") or "").startswith(KINDS):
            classes, text, title = self.tokens[-1]
            self.tokens[-1] = (classes, text + data, title)

    @property
    def text(self) -> str:
        return "".join(self.words)


def checked(request: pytest.FixtureRequest, folder: Path, task: str, rows: Path | None = None) -> checkup.CheckUp:
    family = next(name for name in FAMILIES if name in plugins.load("tasks", task).families)
    model = request.getfixturevalue(family.replace("-", "_"))
    values = tiny.recipe_values(model, rows or samples.write(task, folder), folder, task=task)
    return checkup.check(recipefile.build(values), lambda _: None)


def shown_of(seen: list[RowView]) -> list[Any]:
    """All pieces that are drawn as tokens."""
    parts = [part for row in seen for example in row.examples for part in example.parts]
    return [token for part in parts for token in part.tokens if token.kind != "between"]


@pytest.mark.parametrize("task", plugins.names("tasks"))
def test_the_page_of_every_task_is_whole_and_has_every_token_once_and_in_order(
    request: pytest.FixtureRequest, tmp_path: Path, task: str
) -> None:
    found = checked(request, tmp_path, task)
    jsonschema.validate(found.value, SHAPES["check"].model_json_schema())
    seen = views(found.prepared, 20)
    made = Page(checkpage.page(found.value, seen))
    assert {tag for tag, _ in made.elements} <= MARKUP
    wanted = shown_of(seen)
    assert [classes.split()[0] for classes, _, _ in made.tokens] == [token.kind for token in wanted]
    assert [text.replace("↵", "") for _, text, _ in made.tokens] == [visible(token.text) or "·" for token in wanted]
    for (classes, _, title), token in zip(made.tokens, wanted, strict=True):
        assert ("special" in classes.split()) == (token.role == "special")
        assert token.id is None or f"id {token.id} " in title
    images = [said["src"] for tag, said in made.elements if tag == "img"]
    assert len(images) == (20 if task == "image-classification" else 0)
    for source in images:
        assert source and source.startswith("data:image/png;base64,")
        assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (48, 40)
    assert not re.findall(r"https?://|@import|url\(", checkpage.page({**found.value}, []))


def test_the_further_tokens_of_a_character_are_drawn_as_dots(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {k}", "completion": f"中😀 {k}"} for k in range(30)]
    found = checked(request, tmp_path, "chat", tiny.write_jsonl(tmp_path / "rows.jsonl", rows))
    made = Page(checkpage.page(found.value, views(found.prepared, 1)))
    learned = "".join(text for classes, text, _ in made.tokens if classes.startswith("trained"))
    assert re.fullmatch(r"中··😀··· \d+<\|im_end\|>↵\n", learned)


def test_learned_tokens_of_the_page_are_those_of_the_examples(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    found = checked(request, tmp_path, "chat")
    prepared = found.prepared
    made = Page(checkpage.page(found.value, views(prepared, 10**6)))
    parts = [example.parts["text"] for row in prepared.examples for example in row]
    assert sum(classes.startswith("trained") for classes, _, _ in made.tokens) == sum(sum(p.trained) for p in parts)
    assert len(made.tokens) == sum(len(part.ids) for part in parts)


def test_findings_labels_lengths_and_plan_are_on_the_page(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    rows = tiny.label_rows(90)
    rows += [rows[0], rows[1], {"text": "is " * 90, "label": "login"}, {"text": " ", "label": "login"}]
    found = checked(request, tmp_path, "text-classification", tiny.write_csv(tmp_path / "rows.csv", rows))
    stopping = {"kind": "leak", "split": "train/test", "count": 7, "of": 9, "examples": [], "why": "w", "hint": "h",
                "stops": True, "fixed": 3}  # fmt: skip
    value = {**found.value, "findings": [stopping, *found.value["findings"]]}
    made = Page(checkpage.page(value, views(found.prepared, 3)))
    for finding in value["findings"]:
        assert f"{finding['kind']} in {finding['split']}" in made.text
        assert finding["why"] in made.text and finding["hint"] in made.text
        for spot in finding["examples"]:
            assert f"{Path(spot['file']).name}:{spot['line']}{spot['shown']}" in made.text
    assert {"duplicate", "truncated", "bad-row"} <= {finding["kind"] for finding in value["findings"]}
    assert [said.get("class") for _, said in made.elements].count("badge stop") == 1
    assert "--fix leaves 3 out" in made.text
    for label, count in value["labels"]["train"].items():
        assert re.search(rf"{label}\s+{count}\s", made.text)
    bars = [said["title"] for _, said in made.elements if said.get("title")]
    assert bars
    counts, edges = value["histogram"]["counts"], value["histogram"]["edges"]
    sizes = value["lengths"].values()
    assert [edges[0], edges[-1] - 1] == [min(s["min"] for s in sizes), max(s["max"] for s in sizes)]
    assert {split: sum(found) for split, found in counts.items()} == value["rows"]  # a sequence a row
    drawn = [word for word in made.words if re.fullmatch(r"[\d,]+( to [\d,]+)? tokens: [\d,]+", word)]
    assert sum(int(word.rpartition(": ")[2]) for word in drawn) == sum(map(sum, counts.values()))
    assert sum(tag == "line" for tag, _ in made.elements) == len(counts)  # a row is longer than the model reads
    assert f"{value['plan']['updates']:,}" in made.text


def hostile(folder: Path) -> Path:
    """Rows that would run, turn, hide or widen what stands around them."""
    family = "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
    texts = [ATTACK, "abc \u202e turned \u2066 x \u200f", "مرحبا بالعالم هذا نص", f"😀{family} 中文 ไทย",
             "a\tb\r\n\x1b[31mred", "w" * 50_000, "the box " * 6250]  # fmt: skip
    labels = [f"a{ATTACK}", "b\u202e", "c" * 300]
    rows = [{"text": f"{texts[k % 7]} {k}", "label": labels[k % 3]} for k in range(84)]
    return tiny.write_jsonl(folder / "<b>rows&.jsonl", rows)


def test_what_rows_hold_is_never_markup(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    found = checked(request, tmp_path, "text-classification", hostile(tmp_path))
    text = checkpage.page(found.value, views(found.prepared, 20))
    made = Page(text)
    assert {tag for tag, _ in made.elements} <= MARKUP
    assert not [name for _, said in made.elements for name in said if name.startswith("on")]
    assert "a<script>top.ran=1" in made.text and "<b>rows&.jsonl" in made.text and "{{ 7*7 }}" in made.text
    assert not re.search("[\u202e\u2066\u200f\x1b\r]", text) and "⟨U+202E⟩" in made.text
    assert len(text) < 1_500_000
    assert "tokens did not fit" in made.text and "more characters" in made.text


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", *arguments])
    out = capsys.readouterr()
    return int(str(caught.value.code)), out.out, out.err


def test_the_option_writes_the_page_and_nothing_else_and_says_where(
    encoder: Path, labels_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, out, _ = run(capsys, str(encoder), labels_csv.name, "--page", "seen.html", "--json")
    assert code == 0 and json.loads(out)["rows"]["train"]
    assert set(tmp_path.iterdir()) - before == {tmp_path / "seen.html"}
    assert (tmp_path / "seen.html").read_text(encoding="utf-8").count('<article class="card row">') == 20
    code, out, _ = run(capsys, str(encoder), labels_csv.name, "--page", "seen.html", "--rows", "2")
    assert code == 0 and out.endswith("look at all of it: seen.html\n")
    assert out.count("label: ") == 2
    assert (tmp_path / "seen.html").read_text(encoding="utf-8").count('<article class="card row">') == 2


@pytest.mark.parametrize(
    ("target", "problem"),
    [("rows.csv", "a file of HTML"), ("none/x.html", "no such folder"), ("folder.html", "this is a folder")],
)
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(
    labels_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, problem: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    before = labels_csv.read_bytes()
    code, _, err = run(capsys, str(tmp_path / "no-model"), str(labels_csv), "--page", str(tmp_path / target))
    assert code == 2 and problem in err
    assert labels_csv.read_bytes() == before


PROBE = """<!doctype html><title>probe</title><body><script>
const pages = %s, widths = [360, 1280], found = [];
let waiting = pages.length * widths.length;
for (const [name, text] of pages) for (const width of widths) {
  const frame = document.createElement('iframe');
  frame.style.cssText = `width:${width}px;height:99999px;border:0`;
  frame.srcdoc = text;
  frame.onload = () => {
    const root = frame.contentDocument.documentElement;
    const wide = [...root.querySelectorAll('body *')].filter(
      e => !e.closest('svg') && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 200));
    const small = [...root.querySelectorAll('.tokens span, td, dd, li')].filter(
      e => parseFloat(getComputedStyle(e).fontSize) < 11).length;
    const lost = [...root.querySelectorAll('img')].filter(e => !e.naturalWidth).length;
    found.push({name, width, client: root.clientWidth, scroll: root.scrollWidth,
      wide, small, lost, title: frame.contentDocument.title, ran: window.ran || 0});
    if (--waiting === 0) { const said = document.createElement('pre'); said.id = 'found';
      said.textContent = JSON.stringify(found); document.body.replaceChildren(said); }
  };
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_in_a_browser_nothing_overflows_at_two_widths_and_nothing_of_the_rows_runs(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pages = {"control": CONTROL}
    for task in ("text-classification", "token-classification", "question-answering", "chat", "image-classification"):
        found = checked(request, tmp_path, task)
        pages[task] = checkpage.page(found.value, views(found.prepared, 6))
    found = checked(request, tmp_path, "text-classification", hostile(tmp_path))
    pages["hostile"] = checkpage.page(found.value, views(found.prepared, 20))
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    pages["unguarded"] = policy.sub("", pages["hostile"])
    assert pages["unguarded"] != pages["hostile"]
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE % json.dumps([*pages.items()]).replace("</", "<\\/"), encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", str(probe),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None, done.stderr[-2000:]
    measured = json.loads(HTMLText(said.group(1)).text)
    assert len(measured) == 2 * len(pages)
    for frame in measured:
        assert frame["client"] == frame["width"]
        if frame["name"] == "control":
            narrow = frame["width"] == 360
            assert (frame["title"], bool(frame["wide"]), frame["scroll"] == 500) == ("ran", narrow, narrow)
            continue
        assert (
            frame["scroll"] == frame["width"] and frame["wide"] == [] and frame["small"] == 0 and frame["lost"] == 0
        ), frame
        assert frame["title"].startswith("check: ") and frame["ran"] == 0, frame


class HTMLText(HTMLParser):
    """A piece of HTML as text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.feed(text)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data
