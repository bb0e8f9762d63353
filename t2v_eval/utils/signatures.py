"""Find the keyword arguments of a class in its source, so that a listing imports no module.

Arguments that other libraries renamed are chosen in `backends/common/transformers_internals.py`.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

_DESCRIBED = re.compile(r"^ {4,12}([a-z_`][\w`, *]*): ", re.MULTILINE)
EMPTY = {"object", "ABC", "Generic", "Protocol"}  # classes whose constructors take nothing


def accepted(file: Path, name: str) -> frozenset[str] | None:
    """Return the keyword arguments of a class or function in a file; None if unknown.

    Arguments that it passes on as ``**options`` count too: those of base classes, and of what the
    body of a function calls, which may be one of its own arguments, or any value of a dictionary.

    Args:
        file: a Python file.
        name: a class or function that it defines or imports.

    >>> sorted(accepted(Path(__file__), "accepted"))
    ['file', 'name']
    """
    names = described(file, name)
    return None if names is None else frozenset(names)


@dataclass(frozen=True, slots=True)
class Argument:
    """A keyword argument as its source writes it.

    Attributes:
        type: the annotation; empty without one.
        default: the default; empty where it is required.
        text: what the docstring says of it; empty if nothing.

    >>> Argument("int", default="3").default
    '3'
    """

    type: str = ""
    default: str = ""
    text: str = ""


def described(file: Path, name: str) -> Mapping[str, Argument] | None:
    """Return the arguments of `accepted` with types, defaults and descriptions; None if unknown.

    >>> described(Path(__file__), "accepted")["file"]
    Argument(type='Path', default='', text='a Python file.')
    """
    try:
        state = file.stat()
    except OSError:
        return None
    return _described_by(file, name, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=256)  # hundreds of cards share a few classes
def _described_by(file: Path, name: str, state: tuple[int, int]) -> Mapping[str, Argument] | None:
    try:
        return _accepted(file, name, ())
    except (UnseenError, OSError, SyntaxError, UnicodeDecodeError):
        return None


class UnseenError(Exception):
    """The source does not show the arguments."""


Place: TypeAlias = tuple[Path, str]  # a file, and a name that it defines or imports
Call: TypeAlias = tuple[str, list[str]]  # what is called, and the names of its positional arguments


def _accepted(
    file: Path, name: str, within: tuple[Place, ...], passed: Sequence[Place] = ()
) -> dict[str, Argument]:
    """Return the keyword arguments that remain for a call with positional arguments."""
    if name in EMPTY:
        return {}
    if (file, name) in within:
        raise UnseenError
    within = (*within, (file, name))
    state = file.stat()
    definitions, imports = _module(file, (state.st_mtime_ns, state.st_size))
    node = definitions.get(name)
    if node is None:
        if name not in imports:
            raise UnseenError
        return _accepted(*_place(file, *imports[name]), within, passed)
    if isinstance(node, ast.Dict):
        return _merged(_accepted(file, _name(v), within, passed) for v in node.values)
    if isinstance(node, ast.FunctionDef):
        return _function_keywords(node, file, within, _calls(node), passed)
    texts = _texts(node)
    bases = [_name(base) for base in node.bases]
    if "TypedDict" in bases:
        return {
            _name(field.target): Argument(
                ast.unparse(field.annotation), text=texts.get(_name(field.target), "")
            )
            for field in node.body
            if isinstance(field, ast.AnnAssign)
        }
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            onward: list[Call] = [(base, []) for base in bases]
            keywords = _function_keywords(part, file, within, onward, [(file, "self"), *passed])
            keywords = {
                key: replace(argument, text=texts.get(key, argument.text))
                for key, argument in keywords.items()
            }
            return _completed(keywords, file, bases, within)
    if any(_name(decorator).endswith("dataclass") for decorator in node.decorator_list):
        raise UnseenError
    return _merged(_accepted(file, base, within, passed) for base in bases)


def _function_keywords(
    node: ast.FunctionDef,
    file: Path,
    within: tuple[Place, ...],
    onward: Sequence[Call],
    passed: Sequence[Place],
) -> dict[str, Argument]:
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    places = dict(zip(names, passed, strict=False))
    keywords = {
        name: argument for name, argument in _own_arguments(node).items() if name not in places
    }
    if arguments.kwarg is None:
        return keywords
    annotation = arguments.kwarg.annotation
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "Unpack":
        return _accepted(file, _name(annotation.slice), within) | keywords
    if not onward:
        raise UnseenError
    for target, values in onward:
        further = [places.get(value, (file, value)) for value in values]
        keywords = _accepted(*places.get(target, (file, target)), within, further) | keywords
    return keywords


def _own_arguments(node: ast.FunctionDef) -> dict[str, Argument]:
    """Return the named arguments of a function, without those behind ``**options``."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults
    texts = _texts(node)
    return {
        a.arg: Argument(
            ast.unparse(a.annotation) if a.annotation else "",
            ast.unparse(default) if default else "",
            texts.get(a.arg, ""),
        )
        for a, default in zip(
            [*positional, *arguments.kwonlyargs],
            [*defaults, *arguments.kw_defaults],
            strict=True,
        )
    }


def _texts(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """Return what the sections "Args" and "Attributes" of a docstring say of each name."""
    texts: dict[str, str] = {}
    text = re.sub(r"\n +\*\*?\w+: ", "\n\n", ast.get_docstring(node) or "")
    for section in re.split(r"\n\s*\n", text):
        head, _, body = section.partition("\n")
        if head.strip() not in ("Args:", "Attributes:"):
            continue
        parts = _DESCRIBED.split(body if body.startswith("\n") else f"\n{body}")
        for names, text in zip(parts[1::2], parts[2::2], strict=True):
            for name in names.split(","):
                texts.setdefault(name.strip(" `*"), " ".join(text.split()))
    return texts


def _completed(
    keywords: Mapping[str, Argument], file: Path, bases: Sequence[str], within: tuple[Place, ...]
) -> dict[str, Argument]:
    """Add what base classes say of arguments that a class passes on to them."""
    complete = dict(keywords)
    for base in bases:
        try:
            inherited = _accepted(file, base, within)
        except UnseenError:
            continue
        for name, argument in complete.items():
            if name in inherited:
                above = inherited[name]
                complete[name] = replace(
                    argument,
                    default=argument.default or above.default,
                    text=argument.text or above.text,
                )
    return complete


def _merged(parts: Iterable[Mapping[str, Argument]]) -> dict[str, Argument]:
    merged: dict[str, Argument] = {}
    for part in parts:
        merged |= {name: argument for name, argument in part.items() if name not in merged}
    return merged


def _calls(node: ast.FunctionDef) -> list[Call]:
    """Return the calls in the body of a function that get its ``**options`` or a part of them."""
    kwarg = node.args.kwarg
    return [
        (_name(call.func), [_name(v) for v in takewhile(_is_one_value, call.args)])
        for call in ast.walk(node)
        if kwarg is not None
        and isinstance(call, ast.Call)
        and any(k.arg is None and _mentions(k.value, kwarg.arg) for k in call.keywords)
    ]


def _is_one_value(node: ast.expr) -> bool:
    return not isinstance(node, ast.Starred)


def _mentions(node: ast.expr, name: str) -> bool:
    return any(isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node))


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@lru_cache(maxsize=256)
def _module(
    file: Path, version: tuple[int, int]
) -> tuple[dict[str, ast.ClassDef | ast.FunctionDef | ast.Dict], dict[str, tuple[str, str]]]:
    """Return the definitions of a file, and (module, name) of each name that it imports.

    Args:
        file: a Python file.
        version: time and size of the file, so that the cache forgets an edited one.
    """
    body = ast.parse(file.read_text(encoding="utf-8")).body
    definitions: dict[str, ast.ClassDef | ast.FunctionDef | ast.Dict] = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions |= {_name(target): node.value for target in targets}
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


def source_of(file: Path, module: str) -> Path:
    """Return the file of a module that a card names, without importing it.

    Args:
        file: the TOML file of the card, which lies in a folder of the module's package.
        module: the full name of the module.

    >>> source_of(Path("my_package/clip/mine.toml"), "my_package.clip.mine").as_posix()
    'my_package/clip/mine.py'
    """
    folders = module.split(".")
    for folder in file.parents:
        if folder.name in folders[:-1]:
            inner = folders[folders.index(folder.name) + 1 :]
            return folder.joinpath(*inner[:-1], f"{inner[-1]}.py")
    return file.with_name(f"{folders[-1]}.py")
