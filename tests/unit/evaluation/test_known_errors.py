"""Errors that the data sets and statistics of t2v_metrics 3.0 have, and that must not be here."""

import inspect
import itertools
import math
import socket

import numpy as np
import pytest
from helpers.benchmarks.examples import EXAMPLES, opened
from helpers.toy import ToyEmbedding
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import decode, open_media, parts_of
from t2v_eval.registry import benchmarks
from t2v_eval.stats import metrics
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import agreement_statistic

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def column(values):
    return np.array(values, np.float32)[:, None]


def test_01_pairs_tied_in_both_are_no_errors_where_ties_are_ignored():
    assert metrics.pairwise_accuracy([1, 1, 2], [1, 1, 2], "ignore").value == 1
    assert metrics.pairwise_accuracy([3, 3, 2, 1], [2, 2, 2, 1], "ignore").value == 1


def test_02_a_group_of_human_ties_only_stops_nothing():
    scores, human = [[1, 2], [1, 2], [2, 1]], [[3, 3], [1, 2], [1, 2]]
    assert metrics.pairwise_accuracy(scores, human, "ignore").value == 0.5
    assert math.isnan(metrics.pairwise_accuracy([1, 2], [3, 3], "ignore").value)


def test_03_no_generator_is_left_out_in_silence(tmp_path):
    EXAMPLES["stanfordt23d"].write(tmp_path)
    counts = {
        name: sum(len(item.images) for item in benchmarks.create(name, root=tmp_path).items())
        for name in ("stanfordt23d", "stanfordt23d-300")
    }
    assert counts == {"stanfordt23d": 2 * 6, "stanfordt23d-300": 2 * 5}


@pytest.fixture
def ranked(tmp_path):
    EXAMPLES["genai-rank-dalle3"].write(tmp_path)
    benchmark = benchmarks.create("genai-rank-dalle3", root=tmp_path)
    return benchmark, benchmark.items()


def test_04_prompts_without_a_perfect_image_are_those_without_one(ranked):
    _, items = ranked
    without = [item.id for item in items if item.tags == ("no perfect image",)]
    assert without == [item.id for item in items if max(item.labels["human"]) < 5]
    assert without == ["00012", "00800"]


def test_05_figures_of_some_prompts_are_of_their_own_images(ranked):
    benchmark, items = ranked
    scores = [column(range(9)), column(range(9)), column([0, 0, 0, 1, 0, 0, 0, 0, 0])]
    # The third prompt's fourth image is rated 4, the other prompts' images do not matter.
    assert benchmark.metrics(items[2:], scores[2:])["best_of_9"] == 4
    assert benchmark.statistic(items, scores)(np.array([2]))["best_of_9"] == 4


def test_06_a_prompt_rated_all_alike_has_no_best_image(ranked):
    benchmark, items = ranked
    ratings = [column(item.labels["human"]) for item in items]
    assert len(set(items[1].labels["human"])) == 1
    assert benchmark.metrics(items, ratings)["ranking"] == 1


def test_07_a_missing_score_moves_no_label(tmp_path):
    EXAMPLES["seetrue"].write(tmp_path)
    benchmark = benchmarks.create("seetrue", root=tmp_path)
    items = benchmark.items()
    scores = [column(item.labels["human"]) for item in items]
    for n in range(0, len(items), 2):
        scores[n][0] = np.nan
    result = benchmark.metrics(items, scores)
    assert result["auroc"] == result["mean_auroc"] == 1


def test_08_unsigned_integers_do_not_wrap():
    scores, human = np.array([3, 1, 2, 250], np.uint8), np.array([1, 2, 3, 4], np.uint8)
    expected = stats.kendalltau([3, 1, 2, 250], [1, 2, 3, 4]).statistic
    assert metrics.kendall_tau_b(scores, human) == pytest.approx(expected)
    assert metrics.pairwise_accuracy(scores, human, "strict").value == 4 / 6


def test_09_none_and_nan_are_missing_for_every_metric():
    for metric in METRICS.values():
        expected = metric.compute([0.9, 0.3, 0.8, 0.1], [1, 1, 0, 0])
        for missing in (None, math.nan):
            assert metric.compute([0.9, missing, 0.3, 0.8, 0.1], [1, 0, 1, 0, 0]) == expected
            assert metric.compute([0.9, 0.3, 0.8, 0.1, 0.7], [1, 1, 0, 0, missing]) == expected


def test_10_too_little_is_undefined_and_other_names_are_errors():
    for name, metric in METRICS.items():
        assert math.isnan(metric.compute([0.5], [1])) and math.isnan(metric.compute([], [])), name
    for name in ("pearson", "spearman", "tau_b", "tau_c"):
        assert math.isnan(METRICS[name].compute([1, 1, 1], [0, 1, 1]))
        assert math.isnan(METRICS[name].compute([0.1, 0.2, 0.3], [1, 1, 1]))
    with pytest.raises(InputError, match="no agreement metric is called 'tau'"):
        agreement_statistic([1, 2], [1, 2], ["tau"])
    with pytest.raises(InputError, match="use one of"):
        metrics.pairwise_accuracy([1, 2], [1, 2], "optimised")


def test_11_two_runs_give_one_figure(tmp_path):
    EXAMPLES["flickr8k-cf"].write(tmp_path)
    benchmark = benchmarks.create("flickr8k-cf", root=tmp_path)
    runs = [evaluate(ToyEmbedding(), benchmark, resamples=20) for _ in range(2)]
    assert runs[0].metrics == runs[1].metrics and "acc23" in runs[0].metrics


@pytest.mark.parametrize("name", EXAMPLES)
def test_12_every_image_can_be_loaded(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    for item in opened(name, tmp_path).items():
        for image in parts_of(item.images[0]):
            assert decode(open_media(image)).size


@pytest.mark.parametrize("name", EXAMPLES)
def test_13_nothing_is_downloaded_and_any_folder_will_do(tmp_path, name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used")

    root = tmp_path / "elsewhere"
    root.mkdir()
    EXAMPLES[name].write(root)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert opened(name, root).items()
    assert not list((tmp_path / "here").iterdir())
    source = inspect.getsource(inspect.getmodule(type(benchmarks.create(name))))
    assert "subprocess" not in source and "os.system" not in source


def test_14_equal_decimal_steps_are_compared_as_float64():
    scores, human = [0.1, 0.2, 0.3, 0.4, 0.5], [1, 1, 2, 2, 3]
    pairs = list(itertools.combinations(range(5), 2))
    best = 0.0
    for threshold in [0.0, *(abs(scores[i] - scores[j]) for i, j in pairs)]:
        right = 0
        for i, j in pairs:
            tied = abs(scores[i] - scores[j]) <= threshold
            right += tied if human[i] == human[j] else not tied
        best = max(best, right / len(pairs))
    assert metrics.pairwise_accuracy(scores, human).value == best
    single = np.array(scores, np.float32)
    wide = metrics.pairwise_accuracy(single.astype(np.float64), human)
    assert metrics.pairwise_accuracy(single, human) == wide


def test_15_every_metric_is_one_number_on_one_scale():
    rng = np.random.default_rng(0)
    human = rng.integers(0, 2, 40)
    for name, metric in METRICS.items():
        value = metric.compute(human + 0.5 * rng.normal(size=40), human)
        assert isinstance(value, float) and -1 <= value <= 1, name
        assert value > 0.3, name
