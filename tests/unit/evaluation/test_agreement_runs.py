"""A table of scores and ratings as a report: its figures are those of `agreement`."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.evaluation.agreement import agreement
from t2v_eval.evaluation.agreement_runs import agreement_runs
from t2v_eval.inputs.tables import write_table
from t2v_eval.report.html import render
from t2v_eval.report.report import Report
from t2v_eval.stats.metrics import kendall_tau_b

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
    result = agreement(rows, "human", columns or ["near", "far"], resamples=100, **options)
    return result, agreement_runs(
        rows, result, "human", table="judged.csv", resamples=100, **options
    )


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
    assert runs[1].counts.used == 29 and "1 of 30 rows lack" in " ".join(runs[1].benchmark.remarks)


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
