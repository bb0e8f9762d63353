"""Examples in docstrings: those that pytest does not collect are true; the core has one each."""

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
    "errors stats registry inputs store scoring local remote api t2v_metrics evaluation report"
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    # Backends and benchmarks are modules of the package only.
    package = "" if name.startswith("training.") else "t2v_eval."
    found = doctest.testmod(importlib.import_module(package + name))
    assert found.attempted and not found.failed


def without_example(path):
    """The public functions and classes of a module whose docstring has no example."""
    return [
        f"{path.relative_to(ROOT)}: {node.name}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and ">>> " not in (ast.get_docstring(node) or "")
    ]


@pytest.mark.parametrize("package", PACKAGES.split())
def test_public_functions_and_classes_have_an_example(package):
    folder = ROOT / "t2v_eval" / package
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    assert not [name for path in paths for name in without_example(path)]


@pytest.mark.parametrize("name", t2v_eval.__all__)
def test_public_names_have_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(t2v_eval, name)) or "")
