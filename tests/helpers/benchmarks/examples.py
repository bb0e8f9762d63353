"""`EXAMPLES`: the example of each benchmark, from the module of tests that is called like its own.

Those that are older than these modules are in `cases.py` and `published_layouts.py`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from helpers.benchmarks.cases import CASES
from helpers.benchmarks.example import Example
from helpers.benchmarks.published_layouts import ITEMS, LAYOUTS

from t2v_eval.registry import BenchmarkCard, benchmarks

TESTS = Path(__file__).parents[2] / "benchmarks"


def module_of_tests(card: BenchmarkCard) -> Path:
    """The module of tests of a benchmark: test_MODULE.py for the benchmark's MODULE."""
    return TESTS / f"test_{card.module.rpartition('.')[2]}.py"


def _of_modules() -> dict[str, Example]:
    """The examples in modules of tests."""
    found: dict[str, Example] = {}
    for path in dict.fromkeys(map(module_of_tests, benchmarks.cards.values())):
        if path.is_file() and "\nEXAMPLES" in path.read_text(encoding="utf-8"):
            spec = importlib.util.spec_from_file_location(f"examples_of_{path.stem}", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            found |= module.EXAMPLES
    return found


EXAMPLES: dict[str, Example] = {
    **{name: Example(LAYOUTS[name], ITEMS[name], *case) for name, case in CASES.items()},
    **_of_modules(),
}
