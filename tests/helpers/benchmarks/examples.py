"""`EXAMPLES`: the example of each benchmark, from the module of tests of its module."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from helpers.benchmarks.example import Example

from t2v_eval.cards import BenchmarkCard
from t2v_eval.registry import benchmarks

TESTS = Path(__file__).parents[2] / "benchmarks"


def module_of_tests(card: BenchmarkCard) -> Path:
    """The module of tests of a benchmark: test_MODULE.py for the benchmark's MODULE."""
    return TESTS / f"test_{card.module.rpartition('.')[2]}.py"


def read_examples() -> dict[str, Example]:
    """The examples in modules of tests; each holds those of its own benchmarks."""
    examples: dict[str, Example] = {}
    for path in dict.fromkeys(map(module_of_tests, benchmarks.cards.values())):
        if path.is_file() and "\nEXAMPLES" in path.read_text(encoding="utf-8"):
            spec = importlib.util.spec_from_file_location(f"examples_of_{path.stem}", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            own = {name for name, card in benchmarks.cards.items() if module_of_tests(card) == path}
            assert module.EXAMPLES.keys() <= own, (
                f"{path.name} has examples of {sorted(module.EXAMPLES.keys() - own)}, which are "
                f"not benchmarks of its module; it tests {sorted(own)}"
            )
            examples |= module.EXAMPLES
    return examples


EXAMPLES = read_examples()


def opened(name: str, root: Path | None) -> Any:
    """The benchmark on files in `root`; of sets of prompts with the images in ROOT/images."""
    if benchmarks.card(name).kind == "prompts":
        return benchmarks.create(name, root=root, images=(root or Path()) / "images")
    return benchmarks.create(name, root=root)
