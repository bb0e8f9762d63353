"""Find the keyword arguments of a class in its source, so that a listing imports no module."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path

EMPTY = {"object", "ABC", "Generic", "Protocol"}  # classes whose constructors take nothing


def accepted(file: Path, name: str) -> frozenset[str] | None:
    """Return the keyword arguments of a class or function in a file; None if unknown.

    Arguments that it passes on as ``**options`` count too: those of base classes, and of what the
    body of a function calls.

    Args:
        file: a Python file.
        name: a class or function that it defines or imports.

    >>> sorted(accepted(Path(__file__), "accepted"))
    ['file', 'name']
    """
    try:
        return frozenset(_accepted(file, name, ()))
    except (UnseenError, OSError, SyntaxError, UnicodeDecodeError):
        return None


class UnseenError(Exception):
    """The source does not show the arguments."""


def _accepted(file: Path, name: str, within: tuple[tuple[Path, str], ...]) -> set[str]:
    if name in EMPTY:
        return set()
    if (file, name) in within:
        raise UnseenError
    within = (*within, (file, name))
    state = file.stat()
    definitions, imports = _module(file, (state.st_mtime_ns, state.st_size))
    node = definitions.get(name)
    if node is None:
        if name not in imports:
            raise UnseenError
        return _accepted(*_place(file, *imports[name]), within)
    if isinstance(node, ast.FunctionDef):
        return _function_keywords(node, file, within, _callees(node))
    bases = [_name(base) for base in node.bases]
    if "TypedDict" in bases:
        return {_name(field.target) for field in node.body if isinstance(field, ast.AnnAssign)}
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return _function_keywords(part, file, within, bases) - {"self"}
    if any(_name(decorator).endswith("dataclass") for decorator in node.decorator_list):
        raise UnseenError
    return set().union(*(_accepted(file, base, within) for base in bases))


def _function_keywords(
    node: ast.FunctionDef, file: Path, within: tuple[tuple[Path, str], ...], onward: list[str]
) -> set[str]:
    arguments = node.args
    keywords = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    if arguments.kwarg is None:
        return keywords
    annotation = arguments.kwarg.annotation
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "Unpack":
        return keywords | _accepted(file, _name(annotation.slice), within)
    if not onward:
        raise UnseenError
    return keywords.union(*(_accepted(file, target, within) for target in onward))


def _callees(node: ast.FunctionDef) -> list[str]:
    """Return the names of what the body of a function calls with its own ``**options``."""
    kwarg = node.args.kwarg
    return [
        _name(call.func)
        for call in ast.walk(node)
        if kwarg is not None
        and isinstance(call, ast.Call)
        and any(k.arg is None and _name(k.value) == kwarg.arg for k in call.keywords)
    ]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@lru_cache(maxsize=256)
def _module(
    file: Path, version: tuple[int, int]
) -> tuple[dict[str, ast.ClassDef | ast.FunctionDef], dict[str, tuple[str, str]]]:
    """Return the definitions of a file, and (module, name) of each name that it imports.

    Args:
        file: a Python file.
        version: time and size of the file, so that the cache forgets an edited one.
    """
    body = ast.parse(file.read_text(encoding="utf-8")).body
    definitions = {n.name: n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    imports = {
        alias.asname or alias.name: ("." * node.level + (node.module or ""), alias.name)
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return definitions, imports


def _place(file: Path, module: str, name: str) -> tuple[Path, str]:
    """Return the file of an imported module: a sibling, or a module of a loaded package."""
    if module.startswith("."):
        inner = module.lstrip(".")
        folder = file.parents[len(module) - len(inner) - 1]
        return folder / f"{inner.replace('.', '/')}.py", name
    if module.partition(".")[0] not in sys.modules:  # looking for it would import its package
        raise UnseenError
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        raise UnseenError from None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UnseenError
    return Path(spec.origin), name
