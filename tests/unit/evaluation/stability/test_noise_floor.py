"""The noise floor: what is scored again, without the store or a cache, and what is said of it."""

import itertools

import numpy as np
import pytest
from helpers.toy import draw_image

from t2v_eval.api import load
from t2v_eval.errors import ScoringError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.evaluation.stability.noise_floor import measure
from t2v_eval.local.function import from_function
from t2v_eval.remote.scorer import ApiScorer, CellScore
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store


class Drawn(Benchmark):
    """n images, each with a text."""

    def __init__(self, n=50, **options):
        super().__init__(**options)
        self.n = n

    def items(self):
        return [Item([draw_image(n)], [f"text {n}"]) for n in range(self.n)]

    def metrics(self, items, scores):
        return {"mean": float(np.nanmean(np.concatenate([s.ravel() for s in scores])))}


def drifting(step):
    """Return a function whose scores grow by `step` with every image it has scored."""
    count = itertools.count()
    return lambda images, texts: [[step * next(count)] * len(texts) for _ in images]


def test_a_scorer_that_repeats_itself_has_none():
    run = evaluate(from_function(lambda images, texts: [[0.5]] * len(images)), Drawn(), resamples=2)
    assert (run.noise_floor.cells, run.noise_floor.max, run.noise_floor.mean) == (32, 0.0, 0.0)


def test_a_scorer_that_drifts_shows_by_how_much():
    scorer = from_function(drifting(1.0), batch_size=1)
    run = evaluate(scorer, Drawn(n=3), resamples=2)
    # First 0, 1, 2, then 3, 4, 5 in some order: 9 apart in sum.
    assert run.noise_floor.cells == 3 and run.noise_floor.mean == pytest.approx(3.0)
    assert 3 <= run.noise_floor.max <= 5


def test_scores_of_a_store_do_not_hide_it(tmp_path):
    store = Store(tmp_path / "scores.sqlite")
    for _ in range(2):  # the second run computes nothing
        scorer = from_function(drifting(1.0), version="1", batch_size=1, store=store)
        run = evaluate(scorer, Drawn(n=40), resamples=2)
        assert run.noise_floor.cells == 32 and run.noise_floor.max > 0
    assert run.counts.reused == 40 and run.counts.computed == 0


def test_cells_that_are_scored_again_do_not_reach_the_store_or_the_counts(tmp_path):
    store = Store(tmp_path / "scores.sqlite")
    scorer = from_function(drifting(1.0), version="1", batch_size=1, store=store)
    run = evaluate(scorer, Drawn(n=4), resamples=2)
    assert [float(s[0, 0]) for s in run.scores] == [0, 1, 2, 3] and run.counts.computed == 4
    again = evaluate(scorer, Drawn(n=4), resamples=2, noise_floor=False)
    assert [float(s[0, 0]) for s in again.scores] == [0, 1, 2, 3]
    assert scorer.store is store and scorer.on_error == "raise"


def test_the_feature_cache_does_not_hide_it():
    scorer = load("tiny-clip-flant5", device="cpu")
    items = open_benchmark("scenes", n=1).items()
    scores = [scorer(item.images, item.texts).numpy() for item in items]
    other = scorer.computing_anew()
    assert other._cache is not scorer._cache
    calls = []
    other.preprocess = lambda image, plain=scorer.preprocess: calls.append(1) or plain(image)
    other(items[0].images, items[0].texts)
    assert len(calls) == 2, "both images are encoded again"
    assert measure(scorer, items, scores).max < 1e-4


def test_a_service_is_not_asked_twice():
    calls = []

    class Counts(ApiScorer[str]):
        version = "1"

        def pack(self, media):
            return media.key

        async def score_cell(self, image, text):
            calls.append(text)
            return CellScore(0.5)

    run = evaluate(Counts(), Drawn(n=3), resamples=2)
    assert len(calls) == 3 and run.noise_floor.cells == 0
    assert run.noise_floor.describe() == "not measured: a service is not asked twice"


def test_classes_that_may_not_run_here_and_a_switch_are_named():
    class Own(Scorer):
        def score_cells(self, images, texts, cells):
            import torch

            yield ScoreChunk(np.arange(len(cells)), torch.full((len(cells),), 0.5))

    assert "a Own may not run" in evaluate(Own(), Drawn(n=2), resamples=2).noise_floor.reason
    function = from_function(lambda images, texts: [[0.5]] * len(images))
    run = evaluate(function, Drawn(n=2), resamples=2, noise_floor=False)
    assert run.noise_floor.reason == "it was switched off"


def test_a_failure_of_the_second_time_loses_no_run():
    calls = itertools.count()

    def once(images, texts):
        if next(calls) >= 2:
            raise ScoringError("no second time")
        return [[0.5]] * len(images)

    run = evaluate(from_function(once), Drawn(n=2), resamples=2)
    assert run.metrics["mean"].value == 0.5
    assert run.noise_floor.cells == 0 and "failed" in run.noise_floor.reason


def test_missing_scores_are_not_computed_again():
    items = Drawn(n=4).items()
    scores = [np.array([[np.nan if n else 0.5]], np.float32) for n in range(4)]
    function = from_function(lambda images, texts: [[0.75]] * len(images))
    noise = measure(function, items, scores)
    assert (noise.cells, noise.max) == (1, 0.25)
    assert measure(function, items, [np.full((1, 1), np.nan, np.float32)] * 4).reason
