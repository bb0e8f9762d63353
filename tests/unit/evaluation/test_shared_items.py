"""What follows from items is computed once; figures are those of arrays that share nothing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from t2v_eval.benchmarks.forms.ratings import RatingsForm
from t2v_eval.evaluation.benchmark import Item, Items, resample_units, units_of
from t2v_eval.evaluation.comparison import differences
from t2v_eval.evaluation.run import Run, evaluate
from t2v_eval.inputs.media import Media
from t2v_eval.registry import ModelCard
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import BootstrapSamples, agreement_statistic
from t2v_eval.stats.paired import paired_agreement_statistic
from t2v_eval.stats.permutation import paired_permutation
from t2v_eval.utils.arrays import CellArrays

RESAMPLES, TAGS = 20, ("colour", "counting")
IMAGES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]


class Given(Scorer):
    """Returns the scores of a table, (texts, images); fails where it holds NaN."""

    version = "1"

    def __init__(self, name: str, table: np.ndarray) -> None:
        super().__init__(on_error="skip", card=ModelCard(name, name, __name__))
        self.table = table

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        row = np.array([int(caption_text(text)) for text in texts])[cells[:, 1]]
        scores = self.table[row, cells[:, 0]]
        failed = np.isnan(scores)
        yield ScoreChunk(np.flatnonzero(~failed), torch.tensor(scores[~failed]))
        yield ScoreChunk(np.flatnonzero(failed), None, "refused")


class Rated(RatingsForm):
    """Items with ties, of one image or two, some of them in groups."""

    def __init__(self, images: int, groups: bool) -> None:
        super().__init__()
        ratings = np.random.default_rng(0).integers(1, 5, (60, images)).tolist()
        self.rated = [
            Item(
                IMAGES[:images],
                [str(n)],
                {"human": rating},
                tags=(TAGS[n % 2],),
                group=f"group {n // 4}" if groups and n < 30 else "",
            )
            for n, rating in enumerate(ratings)
        ]

    def items(self) -> list[Item]:
        return self.rated


def runs_of(benchmark: Rated, images: int) -> list[Run]:
    """Evaluate three scorers with ties, of which each fails elsewhere."""
    items, runs = benchmark.selected(), []
    for seed in range(3):
        rng = np.random.default_rng(seed + 1)
        human = np.array([item.labels["human"] for item in items])
        table = (human + rng.normal(scale=1.5, size=human.shape)).round()
        table[rng.random(table.shape) < 0.1] = np.nan
        scorer = Given(f"scorer{seed}", table.astype(np.float32))
        runs.append(evaluate(scorer, benchmark, items=items, resamples=RESAMPLES))
    return runs


@pytest.mark.parametrize(("images", "groups"), [(1, False), (1, True), (2, True)])
def test_runs_and_differences_are_those_of_arrays_that_share_nothing(images, groups):
    benchmark = Rated(images, groups)
    runs, names = runs_of(benchmark, images), benchmark.metric_names
    h = np.array([item.labels["human"] for item in benchmark.rated], float)
    tables = [np.array([scores[:, 0] for scores in run.scores], float) for run in runs]
    assert any(np.isnan(table).any() for table in tables)

    def bootstrap(table: np.ndarray, tag: str) -> BootstrapSamples:
        chosen = np.array([n for n, i in enumerate(benchmark.rated) if not tag or tag in i.tags])
        statistic = agreement_statistic(table[chosen], h[chosen], names, pooled=True)
        units = units_of([benchmark.rated[n] for n in chosen])
        return BootstrapSamples.compute(resample_units(statistic, units), len(units), RESAMPLES, 0)

    def p_values(first: np.ndarray, second: np.ndarray, tag: str) -> dict[str, float]:
        chosen = np.array([n for n, i in enumerate(benchmark.rated) if not tag or tag in i.tags])
        sides = (side[chosen] for side in (first, second, h))
        statistic = paired_agreement_statistic(*sides, names, pooled=True)
        units = units_of([benchmark.rated[n] for n in chosen])
        both = [*units, *(members + len(chosen) for members in units)]
        swapped = resample_units(statistic, both) if groups else statistic
        return paired_permutation(swapped, len(units), permutations=RESAMPLES)

    for run, table in zip(runs, tables, strict=True):
        for tag in ("", *TAGS):
            expected = bootstrap(table, tag)
            assert run.bootstrap[tag].value == pytest.approx(dict(expected.value), abs=1e-12)
            for name in names:
                actual = run.bootstrap[tag].resampled[name]
                np.testing.assert_allclose(actual, expected.resampled[name], atol=1e-12)
    for difference, pair in zip(differences(runs), combinations(tables, 2), strict=True):
        missing = np.isnan(pair[0]) | np.isnan(pair[1])
        first, second = (np.where(missing, np.nan, table) for table in pair)
        assert difference.used == (~missing).sum() < difference.cells
        for tag in ("", *TAGS):
            expected = bootstrap(first, tag).difference(bootstrap(second, tag)).intervals()
            actual = difference.by_tag[tag] if tag else difference.metrics
            p = p_values(first, second, tag)
            for name in names:
                assert actual[name] == pytest.approx(expected[name], abs=1e-12)
                assert difference.tests[tag][name].p == pytest.approx(p[name], abs=1e-12)


def test_items_are_shared_by_runs_and_copied_without_what_they_know():
    first, second, _ = runs_of(Rated(1, False), 1)
    assert first.items is second.items and first.human is second.human
    assert first.items.tagged("colour") is second.items.tagged("colour")
    for other in (copy.deepcopy(Items(first.items[:2])), pickle.loads(pickle.dumps(Items([])))):
        assert isinstance(other, Items) and other.tags == ["colour", "counting"][: len(other)]


@pytest.mark.parametrize("shapes", [[(1, 1)] * 3, [(2, 3), (1, 1), (0, 2), (4, 1)], []])
def test_arrays_of_cells_are_those_of_the_items(shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.random(shape) for shape in shapes]
    cells = CellArrays.of(arrays)
    chosen = [len(shapes) - 1, 0, 1, 0] if shapes else []
    for actual, expected in (
        (cells, arrays),
        (cells[:2], arrays[:2]),
        (cells.take(chosen), [arrays[n] for n in chosen]),
        (cells.with_cells(cells.cells + 1), [array + 1 for array in arrays]),
    ):
        assert len(actual) == len(expected)
        for n, array in enumerate(expected):
            np.testing.assert_array_equal(actual[n], array)
            np.testing.assert_array_equal(list(actual)[n - len(expected)], array)
        assert actual.sizes.tolist() == [array.size for array in expected]
    with pytest.raises(IndexError):
        cells[len(shapes)]
