"""A table of scores and ratings as a report: its figures are those of `agreement`."""

import itertools
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from helpers.toy import draw_image
from scipy import stats
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.evaluation.agreement import agreement, measure
from t2v_eval.evaluation.agreement_runs import agreement_runs
from t2v_eval.evaluation.rating_tables.observations import Averaging, Observations
from t2v_eval.evaluation.rating_tables.statistic import paired_statistic_of, statistic_of
from t2v_eval.evaluation.rating_tables.table import RatedTable, TableOptions
from t2v_eval.inputs.tables import write_table
from t2v_eval.report.html import render
from t2v_eval.report.report import Report
from t2v_eval.stats.metrics import kendall_tau_b
from t2v_eval.stats.permutation import SwapStatistic, paired_permutation

SCHEMA = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text("utf-8"))


def judged(n=30, seed=0):
    random = np.random.default_rng(seed)
    human = random.integers(1, 6, n)
    return [
        {
            "human": int(h),
            "near": float(h + random.normal(0, 0.5)),
            "far": float(random.normal()),
            "prompt": f"a thing {k // 3}",
            "tags": "odd" if k % 2 else "even;all",
        }
        for k, h in enumerate(human)
    ]


def runs_of(rows, *columns, **options):
    options = TableOptions(resamples=100, **options)
    table = RatedTable.read(rows, "human", columns or ["near", "far"], options)
    result = measure(table)
    return result, agreement_runs(table, result, "judged.csv")


@pytest.mark.parametrize("group", [None, "prompt"])
def test_figures_are_those_of_the_command(group):
    rows = judged()
    result, runs = runs_of(rows, group=group, tags="tags")
    for run, column in zip(runs, ("near", "far"), strict=True):
        assert run.metrics == result.scores[column]["all"]
        assert set(run.by_tag) == {"odd", "even", "all (tag)"}
        assert run.by_tag["odd"] == result.scores[column]["odd"]
        samples = run.bootstrap[""].intervals()
        for name, interval in run.metrics.items():
            np.testing.assert_allclose(samples[name], interval, rtol=1e-12, err_msg=name)
        assert ("tau_b_per_group" in run.metrics) == (group is not None)
    human, near = ([row[key] for row in rows] for key in ("human", "near"))
    assert runs[0].metrics["tau_b"].value == pytest.approx(kendall_tau_b(near, human))


@pytest.mark.parametrize("group", [None, "prompt"])
def test_columns_are_compared_on_the_rows_of_both(group):
    rows = judged()
    rows[3]["far"] = None
    _, runs = runs_of(rows, group=group)
    (difference,) = Report(runs).differences
    assert (difference.used, difference.cells) == (29, 30)
    both = [row for row in rows if row["far"] is not None]
    near, far = (agreement(both, "human", [c], group=group, resamples=5) for c in ("near", "far"))
    for name in ("tau_b", *(["tau_b_per_group"] if group else [])):
        expected = near.scores["near"]["all"][name].value - far.scores["far"]["all"][name].value
        assert difference.metrics[name].value == pytest.approx(expected)
    assert difference.significant("tau_b") and difference.metrics["tau_b"].value > 0
    assert runs[1].counts.used == 29 and runs[1].benchmark.remarks == runs[0].benchmark.remarks
    page = render(runs, ["near", "far"], Report(runs).differences)
    assert "far: 1 of 30 rows lack a score or a rating" in page


def test_equal_columns_differ_by_nothing_and_p_is_1():
    rows = [{**row, "twin": row["near"]} for row in judged()]
    _, runs = runs_of(rows, "near", "twin", group="prompt")
    (difference,) = Report(runs).differences
    assert difference.metrics["tau_b_per_group"].value == 0.0
    assert difference.p["tau_b_per_group"] == 1.0


def test_labels_of_0_and_1_have_their_own_headline():
    rows = [
        {**row, "human": int(row["human"] > 3), "guess": k % 2} for k, row in enumerate(judged())
    ]
    _, runs = runs_of(rows, "near", "guess")
    assert runs[0].benchmark.headline == "auroc" and runs[0].benchmark.chance == {"auroc": 0.5}
    assert "accuracy" not in runs[0].metrics, "only one of both columns holds 0 and 1 alone"
    _, (run,) = runs_of(rows, "guess")
    assert "accuracy" in run.metrics and "equals the rating" in run.benchmark.meanings["accuracy"]


def test_rows_without_images_are_plotted_and_not_listed():
    _, runs = runs_of(judged())
    page = render(runs, ["near", "far"], Report(runs).differences)
    assert "Scores and people" in page and 'class="browser"' not in page
    assert "could not be read when" not in page and page.count("<svg") >= 3


def test_the_command_writes_a_report_of_all_of_it(tmp_path):
    rows = judged(n=12)
    (tmp_path / "images").mkdir()
    for n, row in enumerate(rows):
        row["image"] = f"images/{n}.png" if n else ""
        draw_image(n).save(tmp_path / "images" / f"{n}.png")
    rows[1]["human"] = None
    write_table(tmp_path / "judged.csv", rows)
    arguments = ["agree", str(tmp_path / "judged.csv"), "--human", "human", "--scores", "near"]
    arguments += ["--scores", "far", "--group", "prompt", "--resamples", "50"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    plain = CliRunner().invoke(app, arguments)
    assert result.stdout == plain.stdout, "what is printed is the same"
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert content["title"] == "near and far on judged.csv"
    assert content["command"][:2] == ["agree", str(tmp_path / "judged.csv")]
    assert [run["scorer"]["kind"] for run in content["runs"]] == ["column", "column"]
    assert content["runs"][0]["noise_floor"]["reason"] == "the scores are of a table"
    page = (tmp_path / "out" / "report.html").read_text()
    assert ('class="browser"' in page and "near reaches a higher" in page) or "told apart" in page
    assert page.count("data:image/") >= 11 and "a thing 1" in page
    loaded = Report.load(tmp_path / "out")
    assert loaded.runs[0].metrics.keys() == content["runs"][0]["metrics"].keys()
    assert loaded.runs[0].human[1] is None


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path):
    write_table(tmp_path / "judged.csv", judged(n=4))
    (tmp_path / "out").write_text("")
    arguments = ["agree", str(tmp_path / "judged.csv"), "--human", "human", "--scores", "near"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and result.stdout == "" and "is a file" in result.output


def by_exchange(first, second):
    """The exact p of a difference of means: all exchanges of the values of rows."""
    differences = np.array(first, float) - np.array(second, float)
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    return float((sums >= abs(differences.sum()) - 1e-9).mean())


def table_of(rows, human, scores, **options):
    table = RatedTable.read(rows, human, scores, TableOptions(**options))
    runs = agreement_runs(table, measure(table), "judged.csv")
    return Report(runs)


def test_columns_of_labels_and_classes_are_tested_by_what_is_right():
    truth = [1, 0, 1, 1, 0, 1, 0, 1, 1]
    good, poor = [1, 0, 1, 1, 0, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0, 0, 1, 1]
    rows = [{"h": h, "good": a, "poor": b} for h, a, b in zip(truth, good, poor, strict=True)]
    expected = by_exchange(np.equal(truth, good), np.equal(truth, poor))
    (difference,) = table_of(rows, "h", ["good", "poor"]).differences
    assert difference.metrics["accuracy"].value == pytest.approx(8 / 9 - 5 / 9)
    assert difference.p["accuracy"] == pytest.approx(expected)
    named = [{k: ("no", "yes")[v] for k, v in row.items()} for row in rows]
    report = table_of(named, "h", ["good", "poor"], classes=True)
    (difference,) = report.differences
    assert difference.p["accuracy"] == pytest.approx(expected)
    assert "balanced_accuracy" in difference.metrics
    assert render(report.runs, report.labels, report.differences)


def test_columns_of_pairs_are_tested_by_what_is_right():
    rng = np.random.default_rng(4)
    rows = []
    for vote in ["left", "right", "tie"] * 3:
        leads = {"near": 3 * (vote == "left"), "far": 0}
        scores = {name: rng.normal((lead, 0), 1) for name, lead in leads.items()}
        scores["far"] *= 1000  # another scale
        sides = {f"{n}{'ab'[k]}": pair[k] for n, pair in scores.items() for k in (0, 1)}
        rows.append({"vote": vote, **sides})
    report = table_of(rows, "vote", ["neara", "fara"], versus=["nearb", "farb"])
    (difference,) = report.differences
    right = [
        [1 - abs(np.sign(row[f"{n}a"] - row[f"{n}b"]) - sign) / 2 for row in rows
         for sign in [{"left": 1, "right": -1, "tie": 0}[row["vote"]]]]
        for n in ("near", "far")
    ]  # fmt: skip
    assert difference.metrics["preference_accuracy"].value == pytest.approx(
        np.mean(right[0]) - np.mean(right[1])
    )
    assert difference.p["preference_accuracy"] == pytest.approx(by_exchange(*right))


def test_tests_of_order_depend_on_order_alone():
    random = np.random.default_rng(6)
    rows = [
        {**row, "node": str(row["human"] % 3), "near": row["human"] + random.normal(0, 2)}
        | {"far": row["human"] + random.normal(0, 3)}
        for row in judged(21)
    ]
    bent = [{**row, "near": np.exp(row["near"])} for row in rows]
    options = {"group": "prompt", "tags": "tags", "nodes": "node", "resamples": 99}
    first, second = (
        table_of(each, "human", ["near", "far"], **options).differences[0] for each in (rows, bent)
    )
    by_order = ("spearman", "tau_b", "tau_c", "acc_strict", "acc_ignore", "ks")
    names = [name for name in first.p if name.startswith(by_order)]
    assert {"tau_b_per_group", "spearman_per_tag", "ks_per_group", "acc_strict"} <= set(names)
    assert {name: second.p[name] for name in names} == {name: first.p[name] for name in names}
    assert second.p["pearson"] != first.p["pearson"]
    assert len({first.p[name] for name in names}) > 5, "not all as small as can be"


def test_means_of_generators_are_exchanged_on_one_scale():
    human = [1, 2, 2, 3, 4, 5, 3, 1]
    near = [0.1, 0.3, 0.2, 0.5, 0.8, 0.9, 0.4, 0.3]
    far = [300, 100, 500, 200, 400, 100, 300, 250]
    rows = [
        {"human": h, "near": a, "far": b, "model": "abcd"[k % 4]}
        for k, (h, a, b) in enumerate(zip(human, near, far, strict=True))
    ]
    rows.insert(3, {"human": 5, "near": 0.1, "far": None, "model": "b"})
    rows.append({"human": 5, "near": 0.1, "far": 2, "model": ""})
    options = {"system": "model", "metrics": ["pearson"], "resamples": 2000}
    (difference,) = table_of(rows, "human", ["near", "far"], **options).differences
    # The last row has no generator, but its scores are exchanged, too.
    s, t = (stats.zscore([*side, last])[:-1] for side, last in ((near, 0.1), (far, 2)))

    def apart(swap):
        means = [
            [np.mean(side[k::4]) for k in range(4)]
            for side in (np.where(swap, t, s), np.where(swap, s, t), human)
        ]
        return stats.pearsonr(means[0], means[2])[0] - stats.pearsonr(means[1], means[2])[0]

    swaps = [np.array(swap) for swap in itertools.product((False, True), repeat=8)]
    every = np.abs([apart(swap) for swap in swaps])
    assert difference.p["pearson_system"] == pytest.approx(np.mean(every >= every[0] - 1e-12))


def test_every_option_makes_a_page(tmp_path):
    rows = [
        {**row, "other": row["human"] % 5 + 1, "generator": "ab"[k % 2], "node": str(row["human"])}
        for k, row in enumerate(judged(24))
    ]
    for options in (
        {"ratings": "each", "tags": "tags", "mean": "weighted"},
        {"group": "prompt", "tags": "tags", "nodes": "node", "mean": "tanh"},
        {"system": "generator", "metrics": ["srcc", "plcc_logistic4"], "group": "prompt"},
    ):
        report = table_of(rows, ["human", "other"], ["near", "far"], resamples=5, **options)
        jsonschema.validate(json.loads(json.dumps(report.to_json())), SCHEMA)
        (difference,) = report.differences
        assert list(difference.metrics) == list(report.runs[0].metrics)
        assert "Krippendorff" in render(report.runs, report.labels, report.differences)


def test_the_page_says_why_a_figure_of_any_column_is_missing():
    rows = [{**row, "flat": 1} for row in judged(12)]
    report = table_of(rows, "human", ["near", "flat"], resamples=5)
    page = render(report.runs, report.labels, report.differences)
    assert "flat: pearson, spearman, tau_b, tau_c: all scores are equal." in page


def test_the_command_says_differences_raters_and_reasons(tmp_path):
    rows = [{**row, "other": row["human"] % 5 + 1, "flat": 1} for row in judged(24)]
    write_table(tmp_path / "t.csv", rows)
    common = ["agree", str(tmp_path / "t.csv"), "--human", "human", "--human", "other"]
    common += ["--scores", "near", "far", "flat", "--resamples", "50"]
    text = CliRunner().invoke(app, common, catch_exceptions=False).stdout
    assert "near - far" in text and "p, corrected" in text
    assert "Krippendorff's alpha (interval)" in text and "one rater against the mean" in text
    assert "flat, all: pearson, spearman, tau_b, tau_c: all scores are equal." in text
    content = json.loads(CliRunner().invoke(app, [*common, "--json"]).stdout)
    assert [(d["first"], d["second"]) for d in content["differences"]] == [
        ("near", "far"), ("near", "flat"), ("far", "flat")
    ]  # fmt: skip
    figure = content["differences"][0]["metrics"]["all"]["tau_b"]
    near, far = (content["scores"][c]["all"]["tau_b"]["value"] for c in ("near", "far"))
    assert figure["value"] == pytest.approx(near - far)
    assert 0 < figure["p"] <= figure["p_holm"] <= 1
    assert content["differences"][1]["metrics"]["all"]["tau_b"]["p"] is None


def test_the_command_names_the_flag_of_an_option(tmp_path):
    write_table(tmp_path / "t.csv", judged(6))
    common = ["agree", str(tmp_path / "t.csv"), "--human", "human", "--scores", "near"]
    result = CliRunner().invoke(app, [*common, "--metric", "sroc"])
    assert result.exit_code == 2 and "--metric sroc: no metric is called so" in result.stderr
    result = CliRunner().invoke(app, [*common, "--versus", "far", "--versus", "near"])
    assert "--versus names 2 columns beside 1 of scores" in result.stderr


def generators_of(rows):
    """Return the rows with a generator each, of which the first has higher ratings and scores."""
    names = ("flux", "sdxl", "turbo")
    return [
        row | {"model": names[k % 3], "human": row["human"] + 9 * (k % 3 == 0),
               "near": row["near"] + 9 * (k % 3 == 0), "caption": row["prompt"]}
        for k, row in enumerate(rows)
    ]  # fmt: skip


@pytest.mark.parametrize("group", [None, "prompt"])
def test_ratings_of_generators_have_decisions_by_prompt(group):
    rows = generators_of(judged())
    _, runs = runs_of(rows, group=group, system="model")
    near, far = ({(d.first, d.second): d for d in run.decisions} for run in runs)
    assert near["flux", "sdxl"].outcome == near["flux", "turbo"].outcome == "same"
    assert near["flux", "sdxl"].prompts == 10
    ratings = [[row["human"] for row in rows[n : n + 3]] for n in range(0, 30, 3)]
    expected = np.mean([first - second for first, second, _ in ratings])
    assert far["flux", "sdxl"].people.difference == pytest.approx(expected)


def test_rows_that_are_of_no_known_prompt_have_no_decisions():
    rows = [{k: v for k, v in row.items() if k not in ("prompt", "caption")}
            for row in generators_of(judged())]  # fmt: skip
    assert all(run.decisions == () for run in runs_of(rows, system="model")[1])
    assert all(run.decisions == () for run in runs_of(judged())[1])


def test_all_swaps_of_two_columns_are_computed_together():
    rng = np.random.default_rng(3)
    human = rng.integers(1, 6, 700).astype(float)
    first, second = (human + rng.normal(scale=s, size=700) for s in (1.0, 1.1))
    second[5] = np.nan
    columns = [Observations.of_rows(scores, human[:, None]) for scores in (first, second)]
    names = ["srcc", "tau_b", "pearson", "acc23"]
    together = paired_statistic_of(*columns, names)
    assert isinstance(together, SwapStatistic)
    plain = statistic_of(Observations.paired(*columns), names)
    swapped = rng.random((5, 700)) < 0.5
    actual = together.differences(swapped)
    for k, swap in enumerate(swapped):
        index = np.where(swap, np.arange(700) + 700, np.arange(700))
        values, others = plain(index), plain((index + 700) % 1400)
        for name in names:
            assert actual[name][k] == pytest.approx(values[name] - others[name], abs=1e-9)


@pytest.mark.parametrize("mean", ["plain", "weighted"])
def test_swaps_of_rows_with_tags_are_those_of_each_swap(mean):
    rng, n = np.random.default_rng(9), 1500
    human = rng.integers(0, 9, n).astype(float)
    first, second = (human + rng.normal(scale=s, size=n) for s in (3.0, 3.1))
    first[rng.random(n) < 0.01] = np.nan
    tags = {"large": rng.random(n) < 0.6, "small": np.arange(n) < 60, "one": np.arange(n) == 5}
    columns = [
        Observations.of_rows(scores, human[:, None], tags=tags) for scores in (first, second)
    ]
    names, averaging = ["srcc", "tau_b", "pearson", "acc23"], Averaging(mean)
    together = paired_statistic_of(*columns, names, averaging)
    assert isinstance(together, SwapStatistic)
    plain = statistic_of(Observations.paired(*columns), names, averaging)

    def apart(index):
        values, others = plain(index), plain((index + n) % (2 * n))
        return {name: value - others[name] for name, value in values.items()}

    assert together.observed() == pytest.approx(apart(np.arange(n)), abs=1e-12)
    assert together(np.arange(n)) == pytest.approx(plain(np.arange(n)))
    swapped = rng.random((6, n)) < 0.5
    expected = [apart(np.where(swap, np.arange(n) + n, np.arange(n))) for swap in swapped]
    actual = together.differences(swapped)
    assert actual.keys() == expected[0].keys() and len(actual) == 8
    for name, values in actual.items():
        assert values == pytest.approx([row[name] for row in expected], abs=1e-6), name
    assert not isinstance(
        paired_statistic_of(*columns, names, Averaging("fisher-z")), SwapStatistic
    ), "an average that is not linear is of each side"


@pytest.mark.parametrize("mean", ["plain", "weighted"])
def test_a_tag_where_one_column_is_constant_is_in_the_average_of_the_other(mean):
    rng, n = np.random.default_rng(2), 700
    human = rng.integers(0, 9, n).astype(float)
    first, second = (human + rng.normal(scale=s, size=n) for s in (3.0, 3.1))
    tags = {"constant": np.arange(n) < 5, "tied": np.arange(n) > 694, "large": np.arange(n) > 99}
    first[:5], second[-5:] = 0.5, np.array([1, 1, 2, 1, 1])
    columns = [Observations.of_rows(s, human[:, None], tags=tags) for s in (first, second)]
    names, averaging = ["pearson", "tau_b"], Averaging(mean)
    together = paired_statistic_of(*columns, names, averaging)
    shown = [statistic_of(column, names, averaging)(np.arange(n)) for column in columns]
    expected = {name: value - shown[1][name] for name, value in shown[0].items()}
    assert isinstance(together, SwapStatistic)
    assert together.observed() == pytest.approx(expected)
    swapped = rng.random((20, n)) < 0.5
    actual = together.differences(swapped)
    for k, swap in enumerate(swapped):
        sides = np.where(swap, np.arange(n) + n, np.arange(n))
        values, others = together(sides), together((sides + n) % (2 * n))
        for name in values:
            assert actual[name][k] == pytest.approx(values[name] - others[name], abs=1e-6)


@pytest.mark.parametrize("n", [40, 600])
def test_where_people_tie_nothing_no_increasing_transformation_changes_p(n):
    rng = np.random.default_rng(n)
    human = rng.normal(size=n)
    tags = {"some": np.arange(n) < 30, "others": np.arange(n) > 20}
    scores, others = human + rng.normal(size=n), human + 1.2 * rng.normal(size=n)
    p_values = []
    for first in (scores, 1 / (1 + np.exp(-3 * scores))):
        columns = [Observations.of_rows(s, human[:, None], tags=tags) for s in (first, others)]
        statistic = paired_statistic_of(*columns, ["acc23"])
        p_values.append(paired_permutation(statistic, n, permutations=300))
    assert p_values[0] == p_values[1]
    assert p_values[0].keys() == {"acc23", "acc23_per_tag"}
