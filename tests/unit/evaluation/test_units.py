"""Resampling units, human ratings of an item, and tests of contrasts, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Knows
from helpers.toy import draw_image

from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.evaluation.benchmark import (
    Benchmark,
    Item,
    bootstrap_items,
    indices_with_tag,
    units_of,
)
from t2v_eval.evaluation.comparison import excludes_zero
from t2v_eval.evaluation.run import PublishedFigure, PublishedTable, evaluate
from t2v_eval.stats.bootstrap import Interval


class Rated(Benchmark):
    """Items with ratings of several people, and two generators to compare."""

    def items(self):
        return [
            Item(
                [draw_image(2 * n), draw_image(2 * n + 1)],
                [f"{n} left", f"{n} right"],
                {"human": [[1, 4], [2], 3, [5, 5]]},
                ("even",) if n % 2 == 0 else ("odd",),
            )
            for n in range(6)
        ]

    def metrics(self, items, scores):
        first, second = np.stack([s.mean(axis=1) for s in scores]).mean(axis=0).tolist()
        return {"first": first, "second": second, "first - second": first - second}

    def contrasts(self, items, scores):
        differences = np.stack([s.mean(axis=1) for s in scores]) @ [1, -1]
        return {("first", "second"): differences + 0.5}


def test_items_of_a_group_are_drawn_together():
    items = [Item([], [], group=group) for group in ("a", "", "b", "a", "")]
    units = [unit.tolist() for unit in units_of(items)]
    assert units == [[0, 3], [1], [2], [4]]
    draws = []
    bootstrap_items(lambda index: draws.append(index.tolist()) or {"n": 1.0}, items, 50, 0)
    assert all(index.count(0) == index.count(3) for index in draws)
    assert any(index.count(0) != index.count(1) for index in draws)


def test_a_tag_stands_for_its_items_and_none_for_all():
    items = Rated().items()
    assert indices_with_tag(items, "even") == [0, 2, 4]
    assert indices_with_tag(items, "") == list(range(6))


def test_ratings_of_several_people_are_averaged_for_each_cell():
    np.testing.assert_array_equal(Rated().human(Rated().items()[0]), [[2.5, 2], [3, 5]])
    assert Rated().human(Item([draw_image(0)], ["a"])) is None


def test_contrasts_of_all_items_are_one_family_and_those_by_tag_another():
    tests = evaluate(Knows(), Rated(), resamples=5).tests
    name = "first - second"
    assert tests[""][name].p_holm == tests[""][name].p
    smaller, larger = sorted(tests[tag][name] for tag in ("even", "odd"))
    assert smaller.p_holm == pytest.approx(min(1, 2 * smaller.p))
    assert larger.p_holm == pytest.approx(max(smaller.p_holm, larger.p))


@pytest.mark.parametrize(
    ("low", "high", "excluded"),
    [
        (0.1, 0.2, True),
        (-0.2, -0.1, True),
        (-0.1, 0.1, False),
        (0.0, 0.1, False),
        (-0.1, 0.0, False),
        (math.nan, math.nan, False),
    ],
)
def test_an_interval_that_touches_0_does_not_exclude_it(low, high, excluded):
    assert excludes_zero(Interval((low + high) / 2, low, high)) is excluded


def test_published_figures_stand_beside_the_whole_benchmark_alone():
    scorer = Knows()
    published = {"first": {scorer.name: 0.7, "source": "a paper"}, "second": {"other": 0.1}}
    rated = Rated(card=BenchmarkCard("rated", "Rated", "test", published=published))
    whole = evaluate(scorer, rated, resamples=2).benchmark
    assert whole.published == {"first": PublishedFigure(0.7, "a paper", scorer.name)}
    assert whole.published_tables == {
        "first": PublishedTable({scorer.name: 0.7}, "a paper"),
        "second": PublishedTable({"other": 0.1}, ""),
    }
    part = evaluate(scorer, rated, resamples=2, subset="even").benchmark
    assert part.published == part.published_tables == {}
    scorer_name = scorer.name
    scorer.card = ModelCard("mine", "Knows", "test", aliases=["other", scorer.name])
    assert evaluate(scorer, rated, resamples=2).benchmark.published == {
        "first": PublishedFigure(0.7, "a paper", scorer_name),
        "second": PublishedFigure(0.1, "", "other"),
    }
