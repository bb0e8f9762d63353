"""Differences between scorers: on which scores, what is told apart, and what is corrected for."""

import itertools
import json
import re
from dataclasses import replace
from functools import partial
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import torch
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys, named_toys  # noqa: F401
from helpers.toy import draw_image
from scipy import stats
from sklearn.metrics import roc_auc_score

from t2v_eval.benchmarks.forms.frames import FramesForm
from t2v_eval.benchmarks.forms.macro import with_means
from t2v_eval.benchmarks.forms.ratings import LabelsForm, RatingsForm
from t2v_eval.cli import console
from t2v_eval.evaluation import comparison
from t2v_eval.evaluation.benchmark import Benchmark, Item, exchanged
from t2v_eval.evaluation.comparison import BOTH, NEARLY_ALL, about_missing
from t2v_eval.evaluation.run import evaluate
from t2v_eval.report.report import Report, compare
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import agreement_statistic


@pytest.fixture(scope="module")
def report():
    return compare([Knows(), Guesses(), Knows(wrong=2)], [Toys(n=36)], resamples=400)


def stepwise(values):
    """Holm's steps as his paper has them: the k-th smallest of m against 0.05 / (m - k + 1)."""
    rejected = set()
    for k, key in enumerate(sorted(values, key=values.__getitem__)):
        if values[key] * (len(values) - k) >= 0.05:
            break
        rejected.add(key)
    return rejected


def test_tags_have_tests_of_their_own(report):
    first, half, _ = report.differences
    # Guesses errs on 6 of the 18 even items and of the 18 odd ones, always in one direction: all
    # exchanges of these must agree, 2 of 2^6. The other errs on every even item and on no odd one,
    # which 2 of 2^18 exchanges do: too few for 400 to show.
    for tag in ("even", "odd"):
        assert first.tests[tag]["right"].p == pytest.approx(2 / 64, abs=0.03)
    assert half.tests["even"]["right"].p == pytest.approx(2 / 2**18, rel=0.5)
    assert half.tests["odd"]["right"].p == 1
    assert half.significant("right", "even") and not half.significant("right", "odd")
    assert first.significant("right") and not first.significant("right", "odd")


def test_tags_are_corrected_for_all_pairs_and_tags(report):
    result = {
        (n, tag): of["right"]
        for n, item in enumerate(report.differences)
        for tag, of in item.tests.items()
        if tag
    }
    assert len(result) == 9
    apart = {key for key, test in result.items() if test.significant}
    assert apart == stepwise({key: test.p for key, test in result.items()}) != set()
    smallest = min(test.p for test in result.values())
    assert min(test.p_holm for test in result.values()) == pytest.approx(9 * smallest)


def test_the_json_has_them(report):
    content = report.to_json()["differences"][1]
    figure = content["by_tag"]["even"]["right"]
    test = report.differences[1].tests["even"]["right"]
    assert (figure["p"], figure["p_holm"], figure["significant"]) == (test.p, test.p_holm, True)
    assert content["by_tag"]["odd"]["right"]["significant"] is False
    assert content["by_tag"]["odd"]["undefined"]["p"] is None


class Refuses(Knows):
    """Has no scores of items whose number is in `refused`."""

    def __init__(self, refused, **options):
        super().__init__(on_error="skip", **options)
        self.refused = refused

    def score_cells(self, images, texts, cells):
        for part in super().score_cells(images, texts, cells):
            (at,) = part.positions
            refused = int(str(texts[cells[at, 1]]).split()[0]) in self.refused
            yield ScoreChunk(part.positions, None, "no answer") if refused else part


def resampled(values, n, resamples):
    """Limits of means over drawn items; `values` has those of items to be counted."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, n, n).tolist() for _ in range(resamples)]
    samples = [[values[k] for k in sample if k in values] for sample in draws]
    means = [np.mean(sample) for sample in samples if sample]
    # Hesterberg 2015, section 3.3
    level = stats.norm.cdf(stats.t.ppf(0.025, n - 1) * np.sqrt(n / (n - 1)))
    return pytest.approx(np.quantile(means, [level, 1 - level]).tolist())


def test_scores_that_one_lacks_count_for_neither():
    # They agree wherever both have scores, and one has none of what both get wrong.
    report = compare(
        [Refuses(range(0, 36, 2), wrong=2), Knows(wrong=2)], [Toys(n=36)], resamples=200
    )
    assert [run.metrics["right"].value for run in report.runs] == [1.0, 0.5]
    (difference,) = report.differences
    assert difference.metrics["right"] == (0, 0, 0) and difference.p["right"] == 1
    assert not difference.significant("right")
    assert (difference.cells, difference.used) == (36 * 4, 18 * 4)
    assert difference.by_tag["odd"]["right"] == (0, 0, 0)
    assert np.isnan(difference.by_tag["even"]["right"]).all(), "no score is left to compare"
    assert np.isnan(difference.tests["even"]["right"].p) and not difference.significant(
        "right", "even"
    )


def test_each_may_lack_other_scores():
    first, other = Refuses({1, 3, 4}), Refuses({3, 6, 8, 9}, wrong=3)
    (difference,) = compare([first, other], [Toys(n=12)], resamples=300).differences
    # Both have items 0, 2, 5, 7, 10 and 11, and the second errs on the first of these.
    apart = {n: float(n == 0) for n in (0, 2, 5, 7, 10, 11)}
    assert (difference.cells, difference.used) == (48, 24)
    assert difference.metrics["right"].value == pytest.approx(1 / 6)
    assert [*difference.metrics["right"][1:]] == resampled(apart, 12, 300)
    assert difference.p["right"] == 1, "one item that differs shows nothing"
    even = {n // 2: value for n, value in apart.items() if n % 2 == 0}
    assert difference.by_tag["even"]["right"].value == pytest.approx(1 / 3)
    assert [*difference.by_tag["even"]["right"][1:]] == resampled(even, 6, 300)


class Table(Scorer):
    """The given score of each text, which is its number; some are missing."""

    def __init__(self, scores):
        super().__init__(on_error="skip")
        self.given = scores

    def identity(self):
        return {"scores": str(self.given.tolist()), **super().identity()}

    def score_cells(self, images, texts, cells):
        for n, (_, j) in enumerate(cells.tolist()):
            value = self.given[int(texts[j])]
            finite = not np.isnan(value)
            yield ScoreChunk(
                np.array([n]), torch.tensor([value]) if finite else None, None if finite else "none"
            )


class Rated(Benchmark):
    """Texts with a rating each, all ranked together."""

    pooled = True

    def __init__(self, human):
        super().__init__()
        self.rated = human

    def items(self):
        return [Item([draw_image(0)], [str(n)], {"human": [h]}) for n, h in enumerate(self.rated)]

    def metrics(self, items, scores):
        return self.statistic(items, scores)(np.arange(len(items)))

    def statistic(self, items, scores):
        human = [item.labels["human"][0] for item in items]
        return agreement_statistic([float(entry[0, 0]) for entry in scores], human, ["tau_b"])


def test_where_nearly_all_cells_have_both_scores_own_resamples_are_shifted(monkeypatch):
    rng = np.random.default_rng(3)
    human = rng.normal(size=500)
    scorers = [human + rng.normal(size=500), human + rng.normal(size=500)]
    scorers[0][17] = scorers[1][400] = scorers[1][401] = np.nan
    runs = [evaluate(Table(scores), Rated(human), resamples=300) for scores in scorers]
    (anew,) = comparison.differences(runs)
    assert NEARLY_ALL not in about_missing([anew], 500)
    monkeypatch.setattr(comparison, "MANY_ITEMS", 500)
    (shifted,) = comparison.differences(runs)
    assert about_missing([shifted], 500) == f"{BOTH} {NEARLY_ALL}"
    value, low, high = shifted.metrics["tau_b"]
    both = ~np.isnan(scorers[0] + scorers[1])
    taus = [stats.kendalltau(scores[both], human[both])[0] for scores in scorers]
    assert value == pytest.approx(taus[0] - taus[1], abs=1e-6), "scores are stored in float32"
    width = anew.metrics["tau_b"].high - anew.metrics["tau_b"].low
    assert (low, high) == pytest.approx([*anew.metrics["tau_b"][1:]], abs=0.05 * width)
    assert (low, high) != [*anew.metrics["tau_b"][1:]]
    assert shifted.tests == anew.tests, "p is of the common cells in both"
    monkeypatch.setattr(comparison, "FEW_CELLS", 0.001)
    assert comparison.differences(runs)[0].metrics == anew.metrics, "too many cells differ"


def test_metrics_of_order_are_of_the_same_cells():
    rng = np.random.default_rng(5)
    human = rng.permutation(9).astype(float)
    one, other = human + rng.normal(size=9), 100 * rng.normal(size=9)
    one[[0, 4]], other[[4, 7]] = np.nan, np.nan
    (difference,) = compare([Table(one), Table(other)], [Rated(human)], resamples=600).differences
    both = ~np.isnan(one + other)
    s, t, h = one[both], other[both], human[both]
    assert (difference.cells, difference.used, len(h)) == (9, 6, 6)

    def apart(first, second):
        return stats.kendalltau(first, h).statistic - stats.kendalltau(second, h).statistic

    assert difference.metrics["tau_b"].value == pytest.approx(apart(s, t))
    # Ranks among the scores that both have change places.
    s, t = stats.rankdata(s), stats.rankdata(t)
    swaps = [np.array(swap) for swap in itertools.product((False, True), repeat=6)]
    every = np.abs([apart(np.where(swap, t, s), np.where(swap, s, t)) for swap in swaps])
    assert difference.p["tau_b"] == pytest.approx(np.mean(every >= every[0] - 1e-12))


def test_only_what_lacks_scores_is_computed_again():
    runs = [evaluate(s, Toys(), resamples=50) for s in (Knows(), Guesses(), Refuses({0}))]
    calls = []

    def watched(run):
        def of(items, scores):
            calls.append(len(items))
            return run.statistic_of(items, scores)

        def paired(items, first, second):
            calls.append(len(items) + len(items))
            return run.paired_statistic_of(items, first, second)

        return replace(run, statistic_of=of, paired_statistic_of=paired)

    whole = Report([watched(run) for run in runs[:2]]).differences
    assert calls == [24, 12, 6, 12], "a permutation test of both for all items and each tag"
    three = Report([watched(run) for run in runs]).differences
    # p is corrected for three pairs now; all else is as it was.
    assert repr(replace(three[0], tests=whole[0].tests)) == repr(whole[0])
    assert repr(three[0].p) == repr(whole[0].p) and three[0].cells == three[0].used == 48
    # Item 0 is even and of the first three; odd items lack nothing, and their draws remain.
    calls.clear()
    Report([watched(runs[0]), watched(runs[2])]).differences  # noqa: B018
    assert sorted(calls) == sorted([24, 12, 6, 12, 12, 6, 3])
    # What both lack is left out of both already.
    calls.clear()
    (same,) = Report([watched(runs[2]), watched(replace(runs[2]))]).differences
    assert sorted(calls) == sorted([24, 12, 6, 12]) and (same.cells, same.used) == (48, 44)


def test_reports_say_what_is_compared_where_scores_are_missing(tmp_path, capsys):
    whole = compare([Knows(), Guesses()], [Toys()], resamples=20)
    some = compare([Knows(), Guesses(), Refuses({0, 1})], [Toys()], resamples=20)
    schema = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    pairs = {"Knows, Guesses": 48, "Knows, Refuses": 40, "Guesses, Refuses": 40}
    for report, missing in ((whole, False), (some, True)):
        folder = report.write(tmp_path / str(missing)).parent
        console.print_report(report)
        outputs = {"console": capsys.readouterr().out}
        outputs |= {name: (folder / name).read_text() for name in ("report.md", "report.html")}
        for name, text in outputs.items():
            assert (text.count(BOTH), text.count("scores of both")) == (missing, missing), name
            for pair, used in pairs.items() if missing else ():
                row = re.search(f"{pair.replace(', ', ' [-−] ')}.*?(\\d+) of 48", text, re.DOTALL)
                assert int(row[1]) == used, (name, pair)
        content = json.loads((folder / "report.json").read_text())
        validator.validate(content)
        counts = {f"{d['first']}, {d['second']}": d["counts"] for d in content["differences"]}
        assert len(counts) == (3 if missing else 1)
        assert all(of == {"cells": 48, "used": pairs[pair]} for pair, of in counts.items())
    del content["differences"][0]["counts"]["used"]
    assert not validator.is_valid(content)


class Frames(FramesForm, RatingsForm):
    """Videos of three frames with ratings."""

    metric_names = ("tau_b", "pearson")

    def __init__(self, rated):
        super().__init__()
        self.rated = rated

    def items(self):
        frames = {"frames": [[0, 1, 2]]}
        return [
            Item([draw_image(0), draw_image(1), draw_image(2)], [str(n)], {"human": [h]} | frames)
            for n, h in enumerate(self.rated)
        ]


def frame_scores(seed, human):
    spread = np.random.default_rng(seed).normal(size=(len(human), 3, 1)) * [[[1], [2], [9]]]
    return [np.float32(human[n] + spread[n]) for n in range(len(human))]


@pytest.mark.parametrize(
    "build", [lambda form: form.paired_statistic, lambda form: partial(exchanged, form.statistic)]
)
def test_videos_exchange_ranks_of_videos(build):
    human = np.random.default_rng(8).permutation(8).astype(float)
    form, sides = Frames(human), [frame_scores(seed, human) for seed in (1, 2)]
    statistic = build(form)(form.items(), *sides)
    for start, scores in zip((0, 8), sides, strict=True):
        means = [float(entry.mean(axis=0)[0]) for entry in scores]
        expected = stats.kendalltau(means, human).statistic
        assert statistic(np.arange(8) + start)["tau_b"] == pytest.approx(expected)
        expected = stats.pearsonr(means, human).statistic
        assert statistic(np.arange(8) + start)["pearson"] == pytest.approx(expected)
    if build(form) == form.paired_statistic:
        ranks = [stats.rankdata([entry.mean(axis=0)[0] for entry in scores]) for scores in sides]
        mixed = np.where(np.arange(8) % 2, ranks[1], ranks[0])
        index = np.arange(8) + 8 * (np.arange(8) % 2)
        expected = stats.kendalltau(mixed, human).statistic
        assert statistic(index)["tau_b"] == pytest.approx(expected)


def test_parts_are_ranked_among_themselves():
    items = [Item([], [], {"human": [n % 2]}, tags=("ab"[n // 6],)) for n in range(12)]
    rng = np.random.default_rng(9)
    sides = [[np.array([[value]]) for value in rng.normal(size=12)] for _ in range(2)]
    build = LabelsForm.paired_statistic
    form = Rated(np.zeros(2))
    form.metric_names = ("auroc",)
    means = with_means(partial(build, form), items, *sides, names=["auroc"])
    index = np.arange(12) + 12 * (np.arange(12) % 3 == 0)
    expected = []
    for part in (slice(0, 6), slice(6, 12)):
        ranks = [stats.rankdata([float(v[0, 0]) for v in side[part]]) for side in sides]
        mixed = np.where(index[part] < 12, *ranks)
        expected.append(roc_auc_score([item.labels["human"][0] for item in items[part]], mixed))
    assert means(index)["mean_auroc"] == pytest.approx(np.mean(expected))
