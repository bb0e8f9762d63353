"""A scorer from a Python file of one's own: a function of images and texts, or a class."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import re
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VError, T2VWarning
from t2v_eval.local.function import FunctionScorer, source_hash
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.regular_file import read_bytes

FORM = "write FILE.py:FUNCTION, for example brightness.py:brightness"


_CHECKED: dict[str, Any] = {}  # by location: what `check_location` found, until it is loaded


class FileFunctionScorer(FunctionScorer):
    """A function of a file; its id holds a hash of its source too, beside the version.

    Functions of several files may have one name, and share the command line's store.

    >>> scorer = FileFunctionScorer(lambda images, texts: [[0.5]], name="half", version="1")
    >>> [fact.partition("=")[0] for fact in scorer.encoder_id.split()]
    ['half', 'source', 'version', 'images', 'semantics']
    """

    @override
    def identity(self) -> dict[str, str]:
        return {"source": source_hash(self.function), **super().identity()}


def from_file(
    location: str,
    *,
    version: str | int | float | None = None,
    pairs: bool = False,
    store: str | Path | Store | None = None,
    card: ModelCard | None = None,
    **options: Any,
) -> Scorer:
    """Make a scorer of a function, or of a subclass of Scorer, in a Python file, which is run.

    A store keeps scores only of a function with a version, and of a class that says when its
    numbers change (see `Scorer`). For others it is left out with a warning, so that no edit meets
    a score of an earlier formula.

    Args:
        location: ``path/to/file.py:function`` or ``path/to/file.py:Class``.
        version: of a function, as for `from_function`; a class has its own.
        pairs: of a function, as for `from_function`.
        store: the file that stores scores between runs; None stores nothing.
        card: the card of the family, whose facts are not those of this scorer.
        options: as for `load`.

    Raises:
        InputError: there is no such file, function or class; the file or the class raises an
            exception; or the class does not take the options.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.py"
    ...     _ = path.write_text("def width(images, texts): return [[i.width] for i in images]")
    ...     scorer = from_file(f"{path}:width", version="1")
    >>> scorer(Image.new("RGB", (8, 4)), "a lamp")
    tensor([[8.]])
    """
    path, name = _parts(location)
    entry = _CHECKED.pop(location, None) or _entry(path, name)
    if isinstance(entry, type):
        options |= {"pairs": True} if pairs else {}
        scorer = _build(entry, path, options)
    else:
        scorer = FileFunctionScorer(entry, name=name, version=version, pairs=pairs, **options)
    if store is not None:
        _keep_in(store, scorer)
    return scorer


def check_location(location: str) -> None:
    """Run the file of a location, so that its mistakes are known before others score for hours.

    Args:
        location: as for `from_file`, which then does not run the file again.

    Raises:
        InputError: as `from_file`, but for options.

    >>> check_location("gone.py:width")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: gone.py: no such file; write FILE.py:FUNCTION, for example ...
    """
    _CHECKED[location] = _entry(*_parts(location))


def takes_option(option: str, location: str) -> bool:
    """Return whether the constructor of the class of a location takes an option.

    Args:
        option: the name of a keyword argument.
        location: as for `from_file`, which then does not run the file again.

    Raises:
        InputError: as `from_file`, but for options.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.py"
    ...     _ = path.write_text("def half(images, texts): return [[0.5]]")
    ...     takes_option("scale", f"{path}:half")
    False
    """
    if location not in _CHECKED:
        check_location(location)
    entry = _CHECKED[location]
    if not isinstance(entry, type):
        return False  # of a function, `from_file` names all
    for base in inspect.getmro(entry):  # as far as ``**options`` pass it on
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            if option in parameters:
                return True
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return False
    return False


from_file.check = check_location  # type: ignore[attr-defined]
from_file.takes = takes_option  # type: ignore[attr-defined]


def _parts(location: str) -> tuple[Path, str]:
    """Return the file and the name of a location."""
    path_text, _, name = location.rpartition(":")
    if not path_text or not name.isidentifier():
        path_text, name = location.rstrip(":"), ""
    path = check_path("location", path_text)
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path_text}: {reason}; {FORM}")
    if not name:
        raise InputError(f"{path}: which function? {_names(_defined(path))}; {FORM}")
    return path, name


def _entry(path: Path, name: str) -> Any:
    """Run a file and return its function, or its subclass of Scorer, of this name."""
    names = vars(_run(path))
    entry = names.get(name)
    if isinstance(entry, type) and (not issubclass(entry, Scorer) or inspect.isabstract(entry)):
        raise InputError(
            f"{path}: {name} is a class, but no subclass of t2v_eval.Scorer that has all of its "
            "methods; write one, or a function of images and texts"
        )
    if not callable(entry):
        kind = f"its {name!r} is {type(entry).__name__}; " if name in names else ""
        functions = [n for n, value in names.items() if inspect.isfunction(value) and n[0] != "_"]
        close = difflib.get_close_matches(name, functions, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{path} has no function {name!r}; {kind}{_names(functions)}{hint}")
    return entry


def _run(path: Path) -> ModuleType:
    """Run a file as a module of its own, from its source as it is now.

    Python's cache of bytecode would miss an edit within the same second.
    """
    where = str(path.resolve())
    label = f"{path.stem}_{zlib.crc32(where.encode('utf-8', 'backslashreplace')):08x}"
    spec = importlib.util.spec_from_file_location(label, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[label] = module  # data classes look their module up
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE.py` does
    try:
        code = compile(_source(path), str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except T2VError:
        raise
    except (Exception, SystemExit) as error:  # code of a user may raise anything
        raise InputError(_reason(path, error)) from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _source(path: Path) -> str:
    """Return the text of a Python file in the encoding that it declares."""
    return importlib.util.decode_source(read_bytes(path))


def _reason(path: Path, error: BaseException) -> str:
    """Return which line of a file raised what."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    place = f"{path}, line {line}," if line else f"{path}"
    return f"{place} raises {type(error).__name__}: {words}; run `python {path}` to see it alone"


def _build(scorer_class: type[Scorer], path: Path, options: dict[str, Any]) -> Scorer:
    """Return an object of a class of a file."""
    name = scorer_class.__name__
    try:
        inspect.signature(scorer_class).bind(**options)
    except TypeError as error:
        raise InputError(
            f"{path}: {name} {error}: let its __init__ take **options and pass them to "
            "super().__init__(**options)"
        ) from None
    try:
        return scorer_class(**options)
    except T2VError:
        raise
    except Exception as error:  # code of a user may raise anything
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise InputError(f"{path}: {name} takes no `{unknown[1]}=`") from None
        raise InputError(_reason(path, error)) from error


def _keep_in(store: str | Path | Store, scorer: Scorer) -> None:
    """Give a scorer a store, or warn that it has no version and that nothing is stored."""
    try:
        scorer.check_versioned()
    except InputError:
        remedy = (
            "pass `version='1'`"
            if isinstance(scorer, FunctionScorer)
            else 'write `version = "1"` in the class'
        )
        warnings.warn(
            f"no scores of {scorer.name!r} are stored, as it has no version: {remedy}, and raise "
            "it with each change of what it computes",
            T2VWarning,
            stacklevel=4,
        )
    else:
        scorer.store = store


def _defined(path: Path) -> list[str]:
    """Return the functions and classes that a file defines, without running it."""
    try:
        body = ast.parse(_source(path)).body
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]


def _names(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"it has {listed}" if listed else "it has no function"
