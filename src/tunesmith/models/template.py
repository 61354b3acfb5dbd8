"""A chat template is a program of whoever made the model: before the library runs it, it is run here under limits.

Jinja's sandbox keeps a template from what is not its own, but not from working for ever or writing without an end. Here
every loop, call and operation is paid from a purse, and what would grow at once is refused before it does. No clock is
asked: a template is refused on every machine or on none.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from tunesmith.errors import DataError, ModelError

_PURSE = 2**31
_STEP = 2**14
"""What a turn of a loop or a call costs; a character costs 1. A hundred thousand steps, or two billion characters."""
_LARGEST = 2**24
"""Characters or items of one value, and of what is written."""
_NUMBER = 2**20
"""Largest number that a call or a filter takes: widths, sizes, counts."""
_BITS = 2**14
_WIDE = re.compile(r"\d{6}|\*|\{[^}]*\{")
"""Widths in a format that are vast, or come from elsewhere."""


class _TooMuch(Exception):
    """More than any conversation needs."""


class _Generation(Extension):
    """`{% generation %}`, which marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands inside, as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Weighing(NodeTransformer):
    """Has every loop counted, and everything weighed that is joined or filtered."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Its turns are counted."""
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """What is joined may have doubled."""
        self.generic_visit(node)
        return nodes.Filter(node, "_weighed", [], [], None, None, lineno=node.lineno)


class _Bounded(ImmutableSandboxedEnvironment):
    """The library's environment, with a purse."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.left = _PURSE
        self.spent_all = False
        self.filters["tojson"] = _tojson
        self.filters = {name: self._paid(name, function) for name, function in self.filters.items()}
        self.filters |= {"_counted": self._counted, "_weighed": self._weighed}
        self.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}

    def pay(self, cost: int) -> None:
        """Take from the purse. Raises _TooMuch when it is empty, or where one cost is more than any value's."""
        self.left -= cost
        if self.left < 0 or cost > _LARGEST:
            self.spent_all = True  # the compiler passes over what goes wrong while it computes constants
            raise _TooMuch

    def _counted(self, items: Iterable[Any]) -> Iterable[Any]:
        def each() -> Iterator[Any]:
            for item in items:
                self.pay(_STEP)
                yield item

        return items if isinstance(items, str) and not items else _Sized(each(), items)

    def _weighed(self, value: Any) -> Any:
        if isinstance(value, str | list | tuple | Mapping):
            self.pay(len(value))
        return value

    def _paid(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is paid for."""

        @functools.wraps(function)
        def paid(*arguments: Any, **named: Any) -> Any:
            plain = [
                a for a in arguments if not isinstance(a, Context | nodes.EvalContext | ImmutableSandboxedEnvironment)
            ]
            self._before(name, plain, named)
            return self._weighed(function(*arguments, **named))

        return paid

    def _before(self, name: str, given: list[Any], named: Mapping[str, Any]) -> None:
        """Pay for what a method of a text or a filter is about to make of `given`, the text first."""
        self.pay(_STEP)
        for value in (*given[1:], *named.values()):
            if isinstance(value, int) and abs(value) > _NUMBER:
                self.pay(_LARGEST + 1)
        texts = [value for value in given if isinstance(value, str)]
        if name in ("format", "format_map") and texts and _WIDE.search(texts[0]):
            self.pay(_LARGEST + 1)
        if name == "replace" and len(texts) > 2:
            self.pay(texts[0].count(texts[1]) * len(texts[2]))
        if name == "expandtabs" and texts:
            self.pay(texts[0].count("\t") * next((v for v in (*given[1:], *named.values()) if isinstance(v, int)), 8))
        if name == "join":
            items = next((v for v in given if isinstance(v, list | tuple)), [])
            between = max((len(text) for text in texts), default=0)
            self.pay(sum(len(item) + between if isinstance(item, str) else between for item in items))
        if name in ("translate", "indent") and texts:
            self.pay(len(texts[0]) * max([8, *(v for v in (*given[1:], *named.values()) if isinstance(v, int))]))

    def call(__self, __context: Context, __obj: Any, *arguments: Any, **named: Any) -> Any:
        """A call that is paid for."""
        owner = getattr(__obj, "__self__", None)
        held = [owner] if isinstance(owner, str) else [None]
        __self._before(getattr(__obj, "__name__", ""), [*held, *arguments], named)
        return __self._weighed(super().call(__context, __obj, *arguments, **named))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operation that is paid for before it is done."""
        sizes = [len(side) if isinstance(side, str | list | tuple) else 0 for side in (left, right)]
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            self.pay(_LARGEST + 1)
        if operator == "*" and any(sizes):
            self.pay(sum(sizes) * max(next((side for side in (left, right) if isinstance(side, int)), 1), 0))
        elif operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * (right if operator == "**" else 1) + right.bit_length()
            self.pay(_STEP if bits <= _BITS else _LARGEST + 1)
        self.pay(sum(sizes))
        return super().call_binop(context, operator, left, right)

    def _generate(self, source: nodes.Template, *arguments: Any, **named: Any) -> str:
        weighed: nodes.Template = _Weighing().visit(source)
        weighed.set_environment(self)
        return super()._generate(weighed, *arguments, **named)


class _Sized:
    """What a loop runs over, with the length that `loop.length` asks for."""

    def __init__(self, items: Iterator[Any], held: Any) -> None:
        self.items, self.held = items, held

    def __iter__(self) -> Iterator[Any]:
        return self.items

    def __len__(self) -> int:
        return len(self.held)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _refuse(message: str) -> None:
    raise TemplateError(message)


def refuse_vast(template: str, values: Mapping[str, Any]) -> None:
    """Run a template once, under limits. Raises ModelError where it works or writes more than any conversation needs or
    is no template, and DataError where it refuses this conversation or fails on it."""
    try:
        made = _compiled(template)
        bounded = made.environment
        assert isinstance(bounded, _Bounded)
        bounded.left = _PURSE
        written = 0
        for piece in made.generate(**values):
            written += len(piece)
            bounded.pay(len(piece) if written <= _LARGEST else _LARGEST + 1)
        vast = bounded.spent_all
    except (_TooMuch, RecursionError, MemoryError):
        vast = True
    except TemplateSyntaxError as fault:
        said = f"the model's chat template is broken: {fault.message} (line {fault.lineno} of it)"
        raise ModelError(said, where="model") from None
    except TemplateError as fault:
        raise DataError(f"the model's chat template refuses the conversation: {fault}") from None
    except Exception as fault:  # a template can bring Python to any
        raise DataError(f"the model's chat template fails: {type(fault).__name__}: {fault}") from None
    if vast:
        raise ModelError(
            "the model's chat template works or writes without an end",
            where="model",
            hint="no honest one does; take the model from whom you trust",
        )


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    made = _Bounded()
    compiled = made.from_string(template)
    if made.spent_all:
        raise _TooMuch
    return compiled
