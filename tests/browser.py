"""Pages in a real browser, where one is installed."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROBE = """<!doctype html><title>probe</title><body><script>
const pages = %s, widths = [360, 390, 1280], found = [];
let waiting = pages.length * widths.length;
const use = %s;
for (const [name, text] of pages) for (const width of widths) {
  const frame = document.createElement('iframe');
  frame.style.cssText = `width:${width}px;height:99999px;border:0`;
  frame.srcdoc = text;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    for (const part of page.querySelectorAll('details')) part.open = true;
    const over = element => !element.closest('.scroll, pre, svg') && element.getBoundingClientRect().right > width + 1;
    const wide = [...page.querySelectorAll('body *')].filter(over).map(element => element.outerHTML.slice(0, 200));
    const small = [...page.querySelectorAll('td, th, dd, p, li')].filter(
      element => parseFloat(page.defaultView.getComputedStyle(element).fontSize) < 11).length;
    const bare = [...page.querySelectorAll('.chart, .strip')].filter(
      drawing => drawing.closest('section').offsetHeight && !drawing.getBoundingClientRect().width).length;
    found.push({name, width, scroll: root.scrollWidth, wide, small, bare, ran: window.ran || 0, use: use(page)});
    if (--waiting === 0) { const said = document.createElement('pre'); said.id = 'found';
      said.textContent = JSON.stringify(found); document.body.replaceChildren(said); }
  };
  document.body.append(frame);
}
</script></body>"""


def browse(folder: Path, shown: dict[str, str], use: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What the probe measures of every page at every width, and the lines of the console. `use` is a function of
    JavaScript that uses a page, and gives what came of it."""
    probe = folder / "probe.html"
    probe.write_text(PROBE % (json.dumps([*shown.items()]).replace("</", "<\\/"), use), encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        *(
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--dump-dom",
        ),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr"),
        *(
            "--virtual-time-budget=20000",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            str(probe),
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said is not None, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(said.group(1))), console
