"""From YAML and `--set a.b=c` to a Recipe, with errors that name the line and the key that was meant."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tunesmith import plugins
from tunesmith.anchors import anchor
from tunesmith.errors import RecipeError, RunError, did_you_mean
from tunesmith.recipe import Recipe
from tunesmith.searchspace import Axis, axes_of, corners, lookup, number, walk
from tunesmith.section import NO_SWITCH

Lines = dict[tuple[str, ...], int]
_CLASSES = re.compile(r"valid dictionary or instance of \w+")
_MOST = 100_000
"""Values in a recipe: more are written by no one, but a few lines of anchors may stand for as many as they like."""


@dataclass(frozen=True)
class RecipeFile:
    """A recipe, the words it came from, and the folder its paths are relative to."""

    recipe: Recipe
    text: str
    folder: Path


def load(path: Path, overrides: tuple[str, ...] = ()) -> RecipeFile:
    """The recipe in a file. Paths in it are relative to the file, those in overrides to the working directory.

    Raises RecipeError with the line for anything that is not a valid recipe.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError("there is no such recipe", where=str(path), hint="`tunesmith init FILE` writes one") from None
    except OSError as fault:
        raise RecipeError(f"the recipe cannot be read: {fault.strerror}", where=str(path)) from None
    except UnicodeDecodeError as fault:
        line = fault.object.count(b"\n", 0, fault.start) + 1
        raise RecipeError(
            f"the recipe is not UTF-8: byte 0x{fault.object[fault.start]:02x}",
            where=f"{path}:{line}",
            hint="save it as UTF-8",
        ) from None
    values, lines = _parse(text, str(path))
    folder = path.resolve().parent
    anchor(values, folder)
    return RecipeFile(build(values, overrides, source=str(path), lines=lines), text, folder)


def build(
    values: dict[str, Any],
    overrides: tuple[str, ...] = (),
    *,
    source: str = "recipe",
    lines: Lines | None = None,
) -> Recipe:
    """A Recipe from plain values and `key=value` overrides. Raises RecipeError."""
    values = json.loads(json.dumps(values, default=str))
    for override in overrides:
        _override(values, override)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as fault:
        raise _explain(fault, values, source, lines or {}) from None
    _check_plugins(recipe, source, lines or {})
    if recipe.search is not None and recipe.search.space != "auto":
        _check_space(recipe, axes_of(recipe.search.space), source, lines or {})
    return recipe


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other values for some keys, and without its search. Raises RecipeError."""
    values = recipe.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    for key, value in changes.items():
        _put(values, key.split("."), value)
    return build(values)


def dump(recipe: Recipe) -> str:
    """The recipe as a short YAML file: what was set, without the defaults."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    for key in ("model", "task", "method"):
        if isinstance(values.get(key), dict) and set(values[key]) == {"name"}:
            values[key] = values[key]["name"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def fingerprint(recipe: Recipe) -> str:
    """Four hex digits of everything the recipe says of a run but where it is written."""
    return digest(recipe.model_copy(update={"search": None}))[:4]


def digest(recipe: Recipe) -> str:
    """Of everything the recipe says but where it is written, 64 hex digits."""
    searched: Any = {"dir", "storage", "ray"} if recipe.search is not None else True
    values = recipe.model_dump(mode="json", exclude={"run": True, "search": searched})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _parse(text: str, source: str) -> tuple[dict[str, Any], Lines]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _size(node, {}) > _MOST:
            raise RecipeError(f"the recipe has more than {_MOST:,} values, its anchors written out", where=source)
        values = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        line, problem = _spot(fault, text)
        raise RecipeError(f"the recipe is not valid YAML: {problem}", where=f"{source}:{line}") from None
    except RecursionError:
        raise RecipeError("the recipe is nested too deeply", where=source) from None
    if not isinstance(values, dict) or node is None:
        raise RecipeError(
            "a recipe is a list of `key: value` lines; this file holds none",
            where=source,
            hint="`tunesmith init FILE` writes one to start from",
        )
    lines: Lines = {}
    _walk(node, (), lines, source)
    return values, lines


def _spot(fault: yaml.YAMLError, text: str) -> tuple[int, str]:
    """The line that a parser stopped in, and why."""
    if isinstance(fault, yaml.reader.ReaderError):
        return text.count("\n", 0, fault.position) + 1, f"the character {fault.character:#x} may not stand in it"
    mark = getattr(fault, "problem_mark", None)
    problem = str(getattr(fault, "problem", None) or "it cannot be parsed")
    context = getattr(fault, "context", None)
    return mark.line + 1 if mark else 1, f"{context}, {problem}" if context and problem.startswith("but ") else problem


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a node is when its anchors are written out. Raises RecursionError for one that holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = 0
    inside = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + sum(_size(part, known) for part in inside)
    return known[id(node)]


def _walk(node: yaml.Node, path: tuple[str, ...], lines: Lines, source: str) -> None:
    if not isinstance(node, yaml.MappingNode) or len(path) > 8:
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        if here in lines:
            raise RecipeError(
                f"`{'.'.join(here)}` is written twice",
                where=f"{source}:{key.start_mark.line + 1}",
                hint=f"the first is in line {lines[here]}; keep one",
            )
        lines[here] = key.start_mark.line + 1
        _walk(value, here, lines, source)


_SHORT = {"data": "train", "search": "space"}
"""Sections that may be one word -> the key which that word is the value of; of all others, it is the name."""


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"`{override}` is not `key=value`",
            where="--set",
            hint="write it like `--set train.epochs=5`",
        )
    try:
        value = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, RecursionError):
        value = text
    if parts[:2] == ["search", "space"] and len(parts) > 2:  # its keys have dots of their own
        parts = [*parts[:2], ".".join(parts[2:])]
    _put(values, parts, number(value))


def _put(values: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    """Set a key of a recipe's plain values, by its path."""
    here = values
    for part in parts[:-1]:
        inner = here.get(part)
        if isinstance(inner, str):
            inner = {} if part == "space" else {_SHORT.get(part, "name"): inner}
        if not isinstance(inner, dict):
            inner = {}
        here[part] = inner
        here = inner
    here[parts[-1]] = value


def _explain(fault: ValidationError, values: Any, source: str, lines: Lines) -> RecipeError:
    """The first problem as our error: the key, its line, and the key that was meant."""
    problems = fault.errors()
    inside = [p for p in problems if p["loc"][:2] == problems[0]["loc"][:2]]  # of a union, what was meant goes furthest
    furthest = max(inside, key=lambda p: len(p["loc"]))
    first = next((p for p in problems if p["type"] == "extra_forbidden"), furthest)
    path = tuple(str(part) for part in first["loc"])
    keys = tuple(
        part for part in path if not part.startswith(("function-", "list[")) and part not in ("Plugin", "str", "float")
    )
    if keys[:2] == ("search", "space"):
        keys = keys[:2]
    key = ".".join(keys)
    where = _place(keys, source, lines)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return RecipeError(f"there is no key `{key}`{more}", where=where, hint=did_you_mean(keys[-1], _siblings(keys)))
    if first["type"] == "missing":
        return RecipeError(
            f"`{key}` is missing{more}", where=where, hint=f"add `{key}`; `tunesmith schema` lists the keys"
        )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return RecipeError(message, where=where)
    message = _CLASSES.sub("mapping of keys", message)
    given = "empty" if first["input"] is None else repr(first["input"])
    return RecipeError(f"`{key}` is {given}: {_lower(message)}{more}", where=where)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _place(keys: tuple[str, ...], source: str, lines: Lines) -> str:
    for end in range(len(keys), 0, -1):
        if keys[:end] in lines:
            return f"{source}:{lines[keys[:end]]}"
    return source


def _siblings(keys: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for key in keys[:-1]:
        found = _section_in(section.model_fields[key].annotation)
        if found is None:
            break
        section = found
    return list(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The group of keys that a field is, or may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part)) is not None), None)


def _check_space(recipe: Recipe, axes: tuple[Axis, ...], source: str, lines: Lines) -> None:
    """Raise RecipeError for an axis with a value that the recipe would refuse."""
    for key, params in corners(axes):
        try:
            changed(recipe, walk(axes, lookup(params)))
        except RecipeError as fault:
            where = _place(("search", "space", key), source, lines)
            raise RecipeError(f"`search.space.{key}`: {fault.problem}", where=where, hint=fault.hint) from None


def _check_plugins(recipe: Recipe, source: str, lines: Lines) -> None:
    for key, kind in (("task", "tasks"), ("method", "methods")):
        chosen = getattr(recipe, key)
        if chosen is None:
            continue
        try:
            make_plugin(kind, chosen.name, chosen.options())
        except RecipeError as fault:
            option = fault.where or key
            where = _place(tuple(option.split(".")), source, lines)
            raise RecipeError(fault.problem, where=where, hint=fault.hint) from None
    if recipe.data.format is not None and recipe.data.format not in plugins.names("formats"):
        raise RecipeError(
            f"there is no format `{recipe.data.format}`",
            where=_place(("data", "format"), source, lines),
            hint=did_you_mean(recipe.data.format, plugins.names("formats")),
        )


def make_plugin(kind: Any, name: str, options: dict[str, Any]) -> Any:
    """The task or method of that name with its options checked by type. Raises RecipeError."""
    from dataclasses import fields

    from pydantic import TypeAdapter

    made = plugins.load(kind, name)
    defaults = {f.name: f.default for f in fields(made) if f.metadata.get("option", True)}
    known = defaults.keys()
    key = str(kind)[:-1]
    for option in options:
        if option not in known:
            raise RecipeError(
                f"the {key} `{name}` has no option `{option}`",
                where=f"{key}.{option}",
                hint=did_you_mean(option, known) if known else f"`{name}` has no options",
            )
        if isinstance(options[option], bool) and not isinstance(defaults[option], bool):
            raise RecipeError(f"`{key}.{option}` is {options[option]}: {NO_SWITCH}", where=f"{key}.{option}")
    try:
        return TypeAdapter(made).validate_python(options)
    except ValidationError as fault:
        first = fault.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"`{key}.{option}` is {first['input']!r}: {_lower(first['msg'].removeprefix('Value error, '))}",
            where=f"{key}.{option}",
        ) from None


def task_as_json(name: str, task: Any) -> dict[str, Any]:
    """A task's name, options and what it learned."""
    from dataclasses import asdict

    return {"name": name, **asdict(task)}


def task_from(saved: dict[str, Any]) -> Any:
    """The task that `task_as_json` described."""
    from dataclasses import fields, replace

    bare = make_plugin("tasks", saved["name"], {})
    known = {f.name for f in fields(bare)}
    odd = next(
        (k for k, v in saved.items() if isinstance(getattr(bare, k, None), tuple) and not isinstance(v, list)), None
    )
    if odd is not None:
        raise RunError(f"the task's `{odd}` is no list", where="task.json")
    return replace(bare, **{k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k in known})
