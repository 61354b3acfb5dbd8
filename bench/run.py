"""All units, or one: `python bench/run.py [UNIT] [--save]`. `--save` keeps the result in bench/results/.

A unit is a file of bench/units/ with a `main` that returns its result. Its JSON line is printed last of all it
prints; the exit status is 1 when a goal was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import peers  # noqa: E402

UNITS = sorted(path.stem.replace("_", "-") for path in (ROOT / "bench" / "units").glob("[a-z]*.py"))


def main() -> int:
    """Run, print, and say by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description="Tunesmith side by side with its peers.")
    parser.add_argument("unit", nargs="?", choices=UNITS, help="one unit; all where none is named")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results/UNIT.json")
    asked = parser.parse_args()
    peers.install()
    passed = True
    for name in [asked.unit] if asked.unit else UNITS:
        print(f"== {name}", flush=True)
        result = importlib.import_module(f"bench.units.{name.replace('-', '_')}").main()
        line = json.dumps({"unit": name, **peers.setting(), **result})
        print(line, flush=True)
        if asked.save:
            results = ROOT / "bench" / "results"
            results.mkdir(exist_ok=True)
            (results / f"{name}.json").write_text(line + "\n", encoding="utf-8")
        passed = passed and result["passed"]
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
