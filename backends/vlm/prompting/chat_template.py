"""Chat templates, rendered within bounds: they are programs of whoever published a checkpoint.

The sandbox of Jinja keeps a template from everything but its variables. Here it also has an end:
loops, calls, filters and operators are steps, of which there are only so many, and texts and lists
have a length beyond which none is made.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, reduce, wraps
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

STEPS = 200_000  # templates of published models take less than a thousand
SECONDS = 20.0  # for steps that are long themselves
LENGTH = 1_000_000  # letters of a text, and values in a list with all that it holds
PRODUCT = 100 * LENGTH  # what a method or filter may multiply, such as a width by lines
BITS = 4096  # of a whole number
# Filters that no conversation needs: one draws lots, others take very long over a long text.
WITHOUT = ("random", "urlize", "striptags", "xmlattr", "wordwrap", "pprint")


class TooMuchError(Exception):
    """A template goes beyond what it may take."""


class Budget:
    """What is left of steps and time."""

    def __init__(self) -> None:
        self.steps, self.end = STEPS, time.monotonic() + SECONDS


_BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)


def render(source: str, **variables: Any) -> str:
    """The text that a chat template makes of its variables.

    Raises:
        TooMuchError: it takes more steps, or makes longer texts, than a conversation needs.
        Exception: whatever a template raises.
    """
    if len(source) > LENGTH:
        raise TooMuchError(f"it has {len(source)} letters itself")
    with _bounded():
        rendered: str = _compiled(source).render(**variables)
    return rendered


@lru_cache(maxsize=64)
def _compiled(source: str) -> Any:
    return _environment().from_string(source)


@contextmanager
def _bounded() -> Iterator[None]:
    token = _BUDGET.set(Budget())
    try:
        yield
    finally:
        _BUDGET.reset(token)


def spend() -> None:
    """Take a step."""
    budget = _BUDGET.get()
    if budget is not None:
        budget.steps -= 1
        if budget.steps < 0:
            raise TooMuchError(f"it is not done after {STEPS} steps")
        if time.monotonic() > budget.end:
            raise TooMuchError(f"it is not done after {SECONDS:.0f} seconds")


def measured(*values: Any) -> int:
    """How much values hold: letters, and values within values, each as often as it is there."""
    total, stack = 0, list(values)
    while stack:
        value = stack.pop()
        total += 1
        if isinstance(value, (str, bytes)):
            total += len(value)
        elif isinstance(value, int) and value.bit_length() > BITS:
            raise TooMuchError("it makes numbers of more than a thousand digits")
        elif isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack += value
        if total + len(stack) > LENGTH:
            raise TooMuchError(f"it makes texts or lists of more than {LENGTH} letters or values")
    return total


def _multiplying(value: Any, *arguments: Any) -> None:
    """Hold that what a method or filter makes of a value stays within bounds."""
    factor = max([1, *(_factor(argument) for argument in arguments)])
    if isinstance(value, str) and ("%" in value or "{" in value):
        factor = max([factor, *(int(digits[:12]) for digits in re.findall(r"\d+", value))])
    if factor * measured(value) > PRODUCT:
        raise TooMuchError(f"it makes texts of more than {LENGTH} letters")


def _factor(argument: Any) -> int:
    if isinstance(argument, (bool, float)) or argument is None:
        return 1
    return abs(argument) if isinstance(argument, int) else measured(argument)


def counted(values: Iterable[Any]) -> Iterator[Any]:
    """Values, each of which is a step."""
    for value in values:
        spend()
        yield value


def _same(value: Any) -> Any:
    """A value that is no larger than it may be."""
    spend()
    measured(value)
    return value


def _filtering(known: Callable[..., Any]) -> Callable[..., Any]:
    """A filter within bounds."""
    passed = hasattr(known, "jinja_pass_arg")  # the environment or context comes first

    @wraps(known)
    def within(*arguments: Any, **options: Any) -> Any:
        spend()
        given = [*arguments[passed:], *options.values()]
        if given:
            _multiplying(*given)
        made = known(*arguments, **options)
        return counted(made) if isinstance(made, Iterator) else _same(made)

    return within


class Instrumented(NodeTransformer):
    """Puts a step wherever a template could go on for ever."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        if node.recursive:
            raise TooMuchError("it has a recursive loop")
        self.generic_visit(node)
        node.iter = _through("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        texts: list[nodes.Expr] = [_through("string", part) for part in node.nodes]
        return reduce(lambda a, b: nodes.Add(a, b, lineno=node.lineno), texts)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _through("same", node.expr)
        for operand in node.ops:
            operand.expr = _through("same", operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _through("same", node.key)
        return node


def _through(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class Bounded(ImmutableSandboxedEnvironment):
    """The sandbox, with an end."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed: nodes.Template = Instrumented().visit(super()._parse(source, name, filename))
        return parsed

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        spend()
        measured(left, right)
        whole = [abs(side) for side in (left, right) if isinstance(side, int)]
        if operator == "%" and isinstance(left, str):
            if "*" in left:
                raise TooMuchError("it takes the width of a text from a variable")
            _multiplying(left)
        elif operator == "*" and len(whole) == 1:
            _multiplying(right if isinstance(left, int) else left, whole[0])
        elif operator == "**" and len(whole) == 2 and whole[0].bit_length() * whole[1] > BITS:
            raise TooMuchError("it makes numbers of more than a thousand digits")
        return super().call_binop(context, operator, left, right)

    def call(self, /, context: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        spend()
        given = [*arguments, *options.values()]
        owner = getattr(function, "__self__", None)
        if isinstance(owner, (str, bytes, int, list, tuple, dict)):
            _multiplying(owner, *given)
            return _same(super().call(context, function, *arguments, **options))
        measured(*given)
        return super().call(context, function, *arguments, **options)

    def getitem(self, obj: Any, argument: Any) -> Any:
        measured(argument)
        return super().getitem(obj, argument)

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        """The parts of what is written, or of a block, as one text."""
        texts, length = [], 0
        for text in parts:
            spend()
            length += len(text)
            if length > LENGTH:
                raise TooMuchError(f"it writes more than {LENGTH} letters")
            texts.append(text)
        return "".join(texts)


class Generation(Extension):
    """``{% generation %}``, around what an assistant wrote, which matters for training alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        parsed: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), True)
        return parsed


@lru_cache(maxsize=1)
def _environment() -> Bounded:
    """As transformers has it for chat templates."""
    made = Bounded(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # or constants would be computed before there are bounds
        finalize=_same,
        extensions=[Generation, loopcontrols],
    )
    made.filters["tojson"] = _to_json
    for name in WITHOUT:
        del made.filters[name]
    made.filters = {name: _filtering(known) for name, known in made.filters.items()}
    made.filters |= {"counted": counted, "same": _same}
    del made.globals["lipsum"]
    made.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise ValueError(message)


def _now(format: str) -> str:
    if re.search(r"\d{3}", format):
        raise TooMuchError("it asks for a date of any width")
    return datetime.now().strftime(format)
