"""Every benchmark: what its small copy holds, its metrics by hand, rows twice, malformed rows.

What is missing and extra files are in test_published.py, for the same names. A benchmark that comes
with the library and has no example fails here.
"""

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
from helpers.benchmarks.examples import EXAMPLES, module_of_tests, opened
from helpers.site_hooks import load

from t2v_eval.errors import BenchmarkDataError, T2VWarning
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

ROOT = Path(__file__).parents[2]
names = pytest.mark.parametrize("name", EXAMPLES)


def test_every_benchmark_has_an_example():
    custom = {card.name: card for card in load("tables").shipped(benchmarks) if card.page}
    for name, card in custom.items():
        path = module_of_tests(card)
        step = "Add it to EXAMPLES of" if path.is_file() else "Write EXAMPLES = {...} in a new"
        assert name in EXAMPLES, (
            f"the benchmark {name!r} has no example. {step} {path.relative_to(ROOT)}, as {name!r}: "
            "Example(...), with a function that writes a small copy of its files, their counts, "
            "metrics computed by hand, a row that is there twice and a malformed row; "
            "tests/helpers/benchmarks/example.py describes each, and "
            "tests/benchmarks/test_sugarcrepe_pp.py is one to start from"
        )
    assert set(EXAMPLES) == set(custom), "an example is of a benchmark that is not there"
    without = {card.name for card in load("tables").shipped(benchmarks)} - set(custom)
    assert without == {"scenes"}, (
        "a card says the web page of its data, `page = ...`; scenes is drawn, and tested in "
        "test_scenes.py"
    )


@names
def test_counts_groups_and_tags(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    items, case = opened(name, tmp_path).items(), EXAMPLES[name]
    assert len(items) == EXAMPLES[name].items
    assert sum(len(item.images) for item in items) == case.images
    assert sum(len(item.texts) for item in items) == case.texts
    assert Counter(tag for item in items for tag in item.tags) == case.tags


@names
def test_metrics_by_hand(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    benchmark = opened(name, tmp_path)
    items = list(benchmark.items())
    scores, expected = EXAMPLES[name].metric(items, tmp_path)
    actual = benchmark.metrics(items, scores)
    assert {key: actual[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert set(benchmark.card.published) <= set(actual), "published figures are of our metrics"
    headline = benchmark.headline or next(iter(actual))
    assert headline in expected or name in ("genai-rank-dalle3", "genai-rank-sdxl")


@names
def test_a_row_twice(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    case = EXAMPLES[name]
    case.duplicate(tmp_path)
    kind, _, text = case.duplicate_message.rpartition(": ")
    if not kind.startswith(("warns", "counts")):
        kind = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if kind:
            items = opened(name, tmp_path).items()
        else:
            with pytest.raises(BenchmarkDataError, match=case.duplicate_message):
                opened(name, tmp_path).items()
            return
    message = [str(item.message) for item in caught if item.category is T2VWarning]
    if kind == "counts":
        assert len(items) == int(text.partition(",")[0]) == EXAMPLES[name].items
    else:
        assert len(items) == EXAMPLES[name].items + 1
        assert any(re.search(text, item) for item in message), message


@names
def test_a_malformed_row_is_named(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    case = EXAMPLES[name]
    case.malformed(tmp_path)
    with pytest.raises(BenchmarkDataError, match=case.malformed_message):
        opened(name, tmp_path).items()
