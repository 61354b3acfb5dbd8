"""The battery's own modules, for the test that feeds it broken plugins."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _module(name: str) -> ModuleType:
    """A test module that stands in no package, opened by its path."""
    place = Path(__file__).parent / "contracts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"opened_{name}", place)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


battery = _module("test_battery")
saved = _module("test_saved_and_broken")
formats = _module("test_formats")
