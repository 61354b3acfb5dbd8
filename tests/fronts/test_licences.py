"""Whose work it stands on: every package that is imported or asked for is listed with a licence."""

import ast
import json
import sys
from email.message import Message
from importlib.metadata import Distribution, packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tunesmith import cli, licences
from tunesmith.models.catalog import CATALOG

PACKAGE = Path(licences.__file__).parent


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(arguments))
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_every_package_that_is_imported_is_listed_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {
        p["name"].lower().replace("_", "-") for p in json.loads(printed(capsys, "licences", "--json"))["packages"]
    }
    owners = packages_distributions()
    imported = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported |= {name.partition(".")[0] for name in names}
    outside = imported - set(sys.stdlib_module_names) - {"tunesmith"}
    assert {"torch", "transformers", "pydantic", "PIL"} <= outside
    for name in outside:
        assert any(owner.lower().replace("_", "-") in listed for owner in owners[name]), name


def test_no_licence_is_unknown_and_none_is_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "licences", "--json"))
    for package in found["packages"]:
        assert package["licence"] != "unknown", package
        assert "\n" not in package["licence"], package
    assert [model["name"] for model in found["models"]] == [entry.name for entry in CATALOG]
    assert all(model["licence"] for model in found["models"])
    needed = {p["name"] for p in found["packages"] if p["needed"]}
    assert "torch" in needed
    assert "pytest" not in {p["name"] for p in found["packages"]}
    assert "bitsandbytes" in {p["name"] for p in found["packages"]} - needed


def test_a_table_for_people_has_a_line_a_package(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "licences").splitlines()
    assert any(line.split()[:1] == ["torch"] and "BSD" in line for line in lines)
    assert any(line.split()[:1] == ["minilm"] for line in lines)


class Told(Distribution):
    """A distribution with these headers."""

    def __init__(self, **headers: str) -> None:
        self.message: Any = Message()
        for key, value in headers.items():
            for part in value.split("|"):
                self.message[key.replace("_", "-")] = part

    @property
    def metadata(self) -> Any:
        return self.message

    def read_text(self, filename: str) -> None:
        return None

    def locate_file(self, path: Any) -> Path:
        return Path(path)


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License": "Apache 2.0", "Classifier": "License :: OSI Approved :: MIT License"}, "Apache 2.0"),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "x" * 500, "Classifier": "License :: OSI Approved|License :: OSI Approved :: BSD"}, "BSD"),
        ({"License": "MIT License\nCopyright someone\nmore"}, "MIT License"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_read_where_a_distribution_names_it(headers: dict[str, str], licence: str) -> None:
    assert licences.licence_of(Told(**headers)) == licence
