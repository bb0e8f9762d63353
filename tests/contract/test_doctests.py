"""Examples in docstrings: those that pytest does not collect are true; core and backends have one.

An example that needs a checkpoint of several gigabytes is skipped; few public names may have one.
"""

import ast
import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import t2v_eval

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("backends", "benchmarks", "training")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
PACKAGES = (
    "errors stats registry inputs store scoring local remote api t2v_metrics extractors evaluation "
    "generators report"
)
SKIP = "# doctest: +SKIP"
MAX_SKIPPED = 15  # public names of backends that cannot be built without published weights


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    # Backends and benchmarks are modules of the package only.
    package = "" if name.startswith("training.") else "t2v_eval."
    result = doctest.testmod(importlib.import_module(package + name))
    assert result.attempted and not result.failed


def docstrings(path):
    """The docstring of each public function and class of a module, by its name."""
    return {
        f"{path.relative_to(ROOT)}: {node.name}": ast.get_docstring(node) or ""
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
    }


def without_example(path):
    """The public functions and classes of a module whose docstring has no example."""
    return [name for name, text in docstrings(path).items() if ">>> " not in text]


@pytest.mark.parametrize("package", PACKAGES.split())
def test_public_functions_and_classes_have_an_example(package):
    folder = ROOT / "t2v_eval" / package
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert not [name for path in paths for name in without_example(path)]


FAMILIES = sorted(path.parent.name for path in (ROOT / "backends").glob("*/__init__.py"))


@pytest.mark.parametrize("family", FAMILIES)
def test_backends_have_an_example(family):
    paths = sorted((ROOT / "backends" / family).rglob("*.py"))
    assert not [name for path in paths for name in without_example(path)]


def test_few_examples_of_backends_are_skipped():
    paths = sorted((ROOT / "backends").rglob("*.py"))
    skipped = [name for path in paths for name, text in docstrings(path).items() if SKIP in text]
    assert len(skipped) <= MAX_SKIPPED, skipped


@pytest.mark.parametrize("name", t2v_eval.__all__)
def test_public_names_have_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(t2v_eval, name)) or "")
