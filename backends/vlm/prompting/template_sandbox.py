"""Render chat templates, which checkpoints bring as programs, within limits of time and memory.

The sandbox of Jinja keeps a template from everything but its variables. Here its steps are limited
too (loops, calls, filters and operators), and the length of its texts and lists.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache, reduce, wraps
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from typing_extensions import override

STEPS = 200_000  # templates of published models take less than a thousand
SECONDS = 20.0  # for steps that are long themselves
LENGTH = 1_000_000  # characters of a text, and values in a list with all that it holds
PRODUCT = 100 * LENGTH  # the most that a length times an argument, such as a width, may be
BITS = 4096  # of a whole number
# Filters that no conversation needs: one draws lots, others take very long over a long text.
REMOVED_FILTERS = ("random", "urlize", "striptags", "xmlattr", "wordwrap", "pprint")


class TemplateLimitError(Exception):
    """A template exceeds a limit of steps, time or length.

    >>> try:
    ...     render("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}")
    ... except TemplateLimitError as error:
    ...     print(error)
    it is not done after 200000 steps
    """


class Budget:
    """The remaining steps and the end of the time of one rendering.

    >>> Budget().steps == STEPS
    True
    """

    def __init__(self) -> None:
        self.steps, self.end = STEPS, time.monotonic() + SECONDS


_BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)


def render(source: str, **variables: Any) -> str:
    """Render a chat template.

    Args:
        source: the template.
        **variables: variables of the template.

    Returns:
        The text.

    Raises:
        TemplateLimitError: it takes more steps, or makes longer texts, than a conversation needs.
        Exception: any other error of the template.

    >>> render("{{ messages[0].content | upper }}", messages=[{"content": "a cat"}])
    'A CAT'
    """
    if len(source) > LENGTH:
        raise TemplateLimitError(f"it has {len(source)} characters itself")
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


def count_step() -> None:
    """Count a step of the template that is being rendered; outside a rendering, do nothing.

    Raises:
        TemplateLimitError: there are too many, or they take too long.

    >>> count_step()
    """
    budget = _BUDGET.get()
    if budget is not None:
        budget.steps -= 1
        if budget.steps < 0:
            raise TemplateLimitError(f"it is not done after {STEPS} steps")
        if time.monotonic() > budget.end:
            raise TemplateLimitError(f"it is not done after {SECONDS:.0f} seconds")


def size_of(*values: Any) -> int:
    """Return the number of characters and nested values in values, each as often as it occurs.

    Raises:
        TemplateLimitError: there are too many.

    >>> size_of("ab", [1, 2])
    6
    """
    total, stack = 0, list(values)
    while stack:
        value = stack.pop()
        total += 1
        if isinstance(value, (str, bytes)):
            total += len(value)
        elif isinstance(value, int) and value.bit_length() > BITS:
            raise TemplateLimitError("it makes numbers of more than a thousand digits")
        elif isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            stack += value
        if total + len(stack) > LENGTH:
            raise TemplateLimitError(
                f"it makes texts or lists of more than {LENGTH} characters or values"
            )
    return total


def _check_product(value: Any, *arguments: Any) -> None:
    """Check that the result of a method or filter of a value cannot exceed the limit."""
    factor = max([1, *(_factor(argument) for argument in arguments)])
    if isinstance(value, str) and ("%" in value or "{" in value):
        factor = max([factor, *(int(digits[:12]) for digits in re.findall(r"\d+", value))])
    if factor * size_of(value) > PRODUCT:
        raise TemplateLimitError(f"it makes texts of more than {LENGTH} characters")


def _factor(argument: Any) -> int:
    if isinstance(argument, (bool, float)) or argument is None:
        return 1
    return abs(argument) if isinstance(argument, int) else size_of(argument)


def _too_large(operands: Sequence[int]) -> bool:
    """Return whether a power of two integers has too many bits."""
    return len(operands) == 2 and operands[0].bit_length() * operands[1] > BITS


def count_each(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values, and count each as a step.

    >>> list(count_each("ab"))
    ['a', 'b']
    """
    for value in values:
        count_step()
        yield value


def _bounded_value(value: Any) -> Any:
    """Return a value that is not larger than the limit."""
    count_step()
    size_of(value)
    return value


def _bounded_filter(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that checks its arguments and its result."""
    passed = hasattr(original, "jinja_pass_arg")  # the environment or context comes first

    @wraps(original)
    def bounded(*arguments: Any, **options: Any) -> Any:
        count_step()
        values = [*arguments[passed:], *options.values()]
        if values:
            _check_product(*values)
        result = original(*arguments, **options)
        return count_each(result) if isinstance(result, Iterator) else _bounded_value(result)

    return bounded


class StepCounter(NodeTransformer):
    """Insert a counted step wherever a template could go on for ever.

    >>> from jinja2 import Environment
    >>> source = "{% for i in range(3) %}{{ i }}{% endfor %}"
    >>> StepCounter().visit(Environment().parse(source)).body[0].iter.name
    'counted'
    """

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Count each turn of a loop; refuse a recursive loop."""
        if node.recursive:
            raise TemplateLimitError("it has a recursive loop")
        self.generic_visit(node)
        node.iter = _filtered("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Turn ``a ~ b`` into ``a + b``, which `BoundedEnvironment.call_binop` bounds."""
        self.generic_visit(node)
        texts: list[nodes.Expr] = [_filtered("string", part) for part in node.nodes]
        return reduce(lambda a, b: nodes.Add(a, b, lineno=node.lineno), texts)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Bound the operands of a comparison."""
        self.generic_visit(node)
        node.expr = _filtered("bounded", node.expr)
        for operand in node.ops:
            operand.expr = _filtered("bounded", operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        """Bound the keys of a mapping."""
        self.generic_visit(node)
        node.key = _filtered("bounded", node.key)
        return node


def _filtered(name: str, node: Any) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of Jinja with limits on steps, lengths and numbers.

    >>> BoundedEnvironment().from_string("{{ 10 ** 10000 }}").render()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval...TemplateLimitError: it makes numbers of more than a thousand digits
    """

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    @override
    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed: nodes.Template = StepCounter().visit(super()._parse(source, name, filename))
        return parsed

    @override
    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        count_step()
        size_of(left, right)
        integers = [abs(side) for side in (left, right) if isinstance(side, int)]
        if operator == "%" and isinstance(left, str):
            if "*" in left:
                raise TemplateLimitError("it takes the width of a text from a variable")
            _check_product(left)
        elif operator == "*" and len(integers) == 1:
            _check_product(right if isinstance(left, int) else left, integers[0])
        elif operator == "**" and _too_large(integers):
            raise TemplateLimitError("it makes numbers of more than a thousand digits")
        return super().call_binop(context, operator, left, right)

    @override
    def call(self, /, context: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        count_step()
        values = [*arguments, *options.values()]
        owner = getattr(function, "__self__", None)
        if isinstance(owner, (str, bytes, int, list, tuple, dict)):
            _check_product(owner, *values)
            return _bounded_value(super().call(context, function, *arguments, **options))
        size_of(*values)
        return super().call(context, function, *arguments, **options)

    @override
    def getitem(self, obj: Any, argument: Any) -> Any:
        size_of(argument)
        return super().getitem(obj, argument)

    @staticmethod
    @override
    def concat(parts: Iterable[str]) -> str:
        """Join the parts of the output, or of a block.

        Raises:
            TemplateLimitError: they are too long together.
        """
        texts, length = [], 0
        for text in parts:
            count_step()
            length += len(text)
            if length > LENGTH:
                raise TemplateLimitError(f"it writes more than {LENGTH} characters")
            texts.append(text)
        return "".join(texts)


class Generation(Extension):
    """``{% generation %}``, around what an assistant wrote, which matters for training alone.

    >>> render("{% generation %}Yes{% endgeneration %}")
    'Yes'
    """

    tags = {"generation"}  # noqa: RUF012

    @override
    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        parsed: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), True)
        return parsed


@lru_cache(maxsize=1)
def _environment() -> BoundedEnvironment:
    """Return the environment of transformers for chat templates, with limits."""
    environment = BoundedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # or constants would be computed before there are bounds
        finalize=_bounded_value,
        extensions=[Generation, loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    for name in REMOVED_FILTERS:
        del environment.filters[name]
    filters = environment.filters.items()
    environment.filters = {name: _bounded_filter(original) for name, original in filters}
    environment.filters |= {"counted": count_each, "bounded": _bounded_value}
    del environment.globals["lipsum"]
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
    return environment


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


def _raise(message: str) -> None:
    raise ValueError(message)


def _now(format: str) -> str:
    if re.search(r"\d{3}", format):
        raise TemplateLimitError("it asks for a date of any width")
    return datetime.now().strftime(format)
