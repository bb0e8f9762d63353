"""Plans from pilots: against formulas of SciPy, and against simulations of what was planned."""

import math

import numpy as np
import pytest
from helpers.red_images import report_of
from scipy import stats

import t2v_eval
from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.power import Target, plan_columns, plan_runs
from t2v_eval.report.report import Report
from t2v_eval.stats.power import paired_power


def table(n, seed=0, lead=0.3):
    """Return rows with a common part, and column a higher by `lead` on average."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, n)
    a, b = (common + rng.normal(shift, 0.5, n) for shift in (lead, 0.0))
    return [{"prompt": f"p{k}", "a": x, "b": y} for k, (x, y) in enumerate(zip(a, b, strict=True))]


def test_paired_columns_need_what_the_t_test_of_their_differences_needs():
    rows = table(60)
    (plan,) = plan_columns(rows, ["a", "b"], Target(effect=0.2, items=240))
    differences = np.array([row["a"] - row["b"] for row in rows])
    sd = differences.std(ddof=1)
    assert plan.difference.value == pytest.approx(differences.mean())
    assert plan.difference[1:] == pytest.approx(
        stats.t.interval(0.95, 59, differences.mean(), stats.sem(differences))
    )
    assert paired_power(plan.items, 0.2, sd) >= 0.8 > paired_power(plan.items - 1, 0.2, sd)
    assert paired_power(60, plan.detectable, sd) == pytest.approx(0.8)
    assert paired_power(240, plan.detectable_with, sd) == pytest.approx(0.8)
    assert (plan.pilot, plan.unit, plan.of, plan.effect) == (60, "row", "columns", 0.2)


def test_a_plan_of_a_pilot_finds_the_difference_as_often_as_it_says():
    (plan,) = plan_columns(table(2000, seed=1), ["a", "b"], Target(effect=0.3))
    significant = 0
    for seed in range(400):
        rows = table(plan.items, seed=10 + seed)
        significant += stats.ttest_rel([r["a"] for r in rows], [r["b"] for r in rows]).pvalue < 0.05
    assert significant / 400 == pytest.approx(0.8, abs=0.05)


def test_rows_of_a_group_count_as_one():
    rows = table(40)
    twice = [row for row in rows for _ in range(2)]
    once, grouped = (
        plan_columns(r, ["a", "b"], Target(effect=0.1), group="prompt")[0] for r in (rows, twice)
    )
    assert grouped.items == once.items and grouped.pilot == once.pilot == 40
    assert grouped.error == pytest.approx(once.error)
    (alone,) = plan_columns(twice, ["a", "b"], Target(effect=0.1))
    assert alone.pilot == 80 and alone.error < once.error


def test_columns_with_ratings_are_compared_by_their_agreement():
    rng = np.random.default_rng(2)
    quality = rng.normal(size=300)
    better, worse = (quality + rng.normal(0, s, 300) for s in (0.6, 1.5))
    rows = [
        {"human": h, "better": b, "worse": w}
        for h, b, w in zip(quality, better, worse, strict=True)
    ]
    (plan,) = plan_columns(
        rows, ["better", "worse"], Target(), human=["human"], metric="pearson", resamples=400
    )
    expected = np.corrcoef(quality, better)[0, 1] - np.corrcoef(quality, worse)[0, 1]
    assert plan.difference.value == pytest.approx(expected)
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert plan.detectable == pytest.approx(z * plan.error)
    assert plan.items == math.ceil(300 * (plan.detectable / expected) ** 2)
    # The standard error of the difference over many samples, not of one bootstrap.
    samples = []
    for _ in range(400):
        q = rng.normal(size=300)
        a, b = (q + rng.normal(0, s, 300) for s in (0.6, 1.5))
        samples.append(np.corrcoef(q, a)[0, 1] - np.corrcoef(q, b)[0, 1])
    assert plan.error == pytest.approx(np.std(samples), rel=0.25)
    (default,) = plan_columns(rows, ["better", "worse"], Target(), human=["human"], resamples=50)
    assert default.metric == "tau_b" and default.unit == "row"


def test_generators_of_a_report_are_planned_by_prompt_also_when_it_is_loaded(tmp_path):
    rng = np.random.default_rng(3)
    difficulty = rng.integers(20, 200, 25)
    reds = {"flux": difficulty + rng.integers(0, 30, 25), "sdxl": difficulty}
    report = report_of(tmp_path / "images", reds)
    (plan,) = plan_runs(report.runs, report.labels, Target())
    differences = reds["flux"] - reds["sdxl"]
    assert (plan.first, plan.second, plan.unit, plan.pilot) == ("flux", "sdxl", "prompt", 25)
    assert plan.difference.value == pytest.approx(differences.mean())
    assert plan.error == pytest.approx(stats.sem(differences))
    assert "red" in plan.on and plan.enough is (plan.items <= 25)
    report.write(tmp_path / "report")
    loaded = Report.load(tmp_path / "report")
    assert plan_runs(loaded.runs, loaded.labels, Target()) == [plan]
    (tmp_path / "report" / "scores.csv").unlink()
    bare = Report.load(tmp_path / "report")
    with pytest.raises(InputError, match=r"no scores\.csv"):
        plan_runs(bare.runs, bare.labels, Target())


def test_scorers_of_a_report_are_planned_from_its_bootstrap(tmp_path):
    names, few = ["tiny-clip", "tiny-negclip"], {"n": 10}
    report = t2v_eval.compare(
        names, "scenes", benchmark_options=few, resamples=80, noise_floor=False
    )
    (plan,) = plan_runs(report.runs, report.labels, Target(), "image")
    samples = [run.bootstrap[""].resampled["image"] for run in report.runs]
    assert plan.error == pytest.approx(np.std(samples[0] - samples[1], ddof=1))
    assert (plan.metric, plan.unit, plan.of) == ("image", "item", "scorers")
    report.write(tmp_path)
    loaded = Report.load(tmp_path)
    assert plan_runs(loaded.runs, loaded.labels, Target(), "image") == [plan]
    with pytest.raises(InputError, match="no metric 'tau_b'"):
        plan_runs(report.runs, report.labels, Target(), "tau_b")
    with pytest.raises(InputError, match="compares nothing"):
        plan_runs(report.runs[:1], report.labels[:1], Target())
    (tmp_path / "samples.npz").unlink()
    bare = Report.load(tmp_path)
    with pytest.raises(InputError, match=r"no samples\.npz"):
        plan_runs(bare.runs, bare.labels, Target())


def test_equal_differences_plan_nothing():
    rows = [{"a": 1.0, "b": 0.5}] * 8
    (plan,) = plan_columns(rows, ["a", "b"], Target(items=9))
    assert plan.items is None and plan.detectable == 0 and not plan.enough


@pytest.mark.parametrize(
    ("rows", "columns", "options", "error", "message"),
    [
        (table(4), ["a"], {}, InputError, "two columns or more"),
        (table(4), ["a", "a"], {}, InputError, "two columns or more"),
        (table(4), ["a", "c"], {}, TableError, "'c'"),
        (table(4), ["a", "b"], {"metric": "tau_b"}, InputError, "needs columns of ratings"),
        (table(4), ["a", "b"], {"human": ["a"], "metric": "x"}, InputError, "called 'x'"),
        (table(4), ["a", "b"], {"group": "topic"}, TableError, "row 1: the group 'topic'"),
        (table(1), ["a", "b"], {}, InputError, "fewer than two rows"),
        ([{"a": 1, "b": "x"}], ["a", "b"], {}, TableError, "row 1"),
    ],
)
def test_what_cannot_be_planned_is_named(rows, columns, options, error, message):
    with pytest.raises(error, match=message):
        plan_columns(rows, columns, Target(), **options)


def test_a_table_of_prompts_and_generators_has_the_means_of_both(tmp_path):
    report = report_of(tmp_path / "images", {"flux": [10, 20], "sdxl": [30, 50]})
    table = report.runs[0].by_generator()
    assert table.generators == ["flux", "sdxl"]
    assert table.scores.tolist() == [[10, 30], [20, 50]]
    assert np.isnan(table.ratings).all() and not table.is_rated
