"""Examples in docstrings of backends, benchmarks and training, which pytest does not collect."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("backends", "benchmarks", "training")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    # Backends and benchmarks are modules of the package only.
    package = "" if name.startswith("training.") else "t2v_eval."
    found = doctest.testmod(importlib.import_module(package + name))
    assert found.attempted and not found.failed
