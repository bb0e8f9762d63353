"""Reports: what they say is what was scored, whole, escaped and the same for the same seed."""

import csv
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import HOSTILE, Guesses, Knows, Toys, named_toys  # noqa: F401

from t2v_eval.cards import BenchmarkCard
from t2v_eval.errors import BenchmarkDataError, InputError, OutputError, UnknownNameError
from t2v_eval.evaluation.benchmark import Benchmark
from t2v_eval.evaluation.comparison import excludes_zero
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.evaluation.selection import FolderFacts
from t2v_eval.report import disagreement
from t2v_eval.report.about import title_of, without_secrets
from t2v_eval.report.chart import forest
from t2v_eval.report.html import render
from t2v_eval.report.reader import SCHEMA_VERSION, read_report
from t2v_eval.report.report import Report, compare
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.bootstrap import Interval

FIXTURES = Path(__file__).parents[2] / "fixtures"
SCHEMA = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def report():
    return compare(["toy-oracle", "toy-guesser"], [Toys()], resamples=200)


def test_figures_are_those_of_the_scores(report):
    knows, guesses = report.runs
    assert knows.metrics["right"] == Interval(1.0, 1.0, 1.0)
    assert guesses.metrics["right"].value == pytest.approx(8 / 12)
    assert guesses.metrics["right"].low < 8 / 12 < guesses.metrics["right"].high
    assert guesses.by_tag["even"]["right"].value == pytest.approx(4 / 6)
    assert guesses.benchmark.tags == {"even": 6, HOSTILE: 3, "odd": 6}
    assert knows.counts == CellCounts(cells=48, computed=48) and knows.counts.used == 48
    assert guesses.verdicts[0] == {"right": 0.0} and guesses.verdicts[1] == {"right": 1.0}
    assert knows.scorer.name == "toy-oracle" and knows.scorer.id.startswith("toy-oracle ")


def test_differences_are_paired(report):
    (difference,) = report.differences
    value, low, high = difference.metrics["right"]
    assert value == pytest.approx(4 / 12) and 0 < low <= value <= high
    assert excludes_zero(difference.metrics["right"])
    # One scorer never errs, so each resample's difference is the share of items the other missed.
    own = report.runs[1].metrics["right"]
    assert (low, high) == (pytest.approx(1 - own.high), pytest.approx(1 - own.low))
    assert difference.by_tag["odd"]["right"].value == pytest.approx(2 / 6)


def test_scorers_are_told_apart_by_a_corrected_permutation_test(report):
    (difference,) = report.differences
    # They differ on 4 items, always in one direction: chance would do so in 2 of 2^4 cases.
    assert difference.p["right"] == difference.p_holm["right"] == pytest.approx(2 / 16, abs=0.06)
    assert not difference.significant("right") and math.isnan(difference.p["undefined"])
    three = compare([Knows(), Guesses(), Knows(wrong=3)], [Toys(n=36)], resamples=400)
    of = {(d.first, d.second): d for d in three.differences}
    # 12 items now, and the second and third scorer are the same.
    exact = 2 / 2**12
    assert of[0, 1].p["right"] == pytest.approx(exact, rel=0.3)
    assert of[0, 2].p["right"] == pytest.approx(exact, rel=0.3)
    assert of[1, 2].p["right"] == of[1, 2].p_holm["right"] == 1
    assert of[0, 1].p_holm["right"] == pytest.approx(3 * exact, rel=0.3)
    assert of[0, 1].significant("right") and not of[1, 2].significant("right")
    figures = three.to_json()["differences"][0]["metrics"]["right"]
    assert figures["p_holm"] == of[0, 1].p_holm["right"] and figures["significant"] is True
    assert "Knows #1 is better" in page_of(three)


def test_scales_of_scorers_do_not_matter_to_the_test():
    class Large(Guesses):
        def score_cells(self, images, texts, cells):
            for part in super().score_cells(images, texts, cells):
                yield replace(part, values=part.values * 1000 + 5)

    runs = [evaluate(s, Toys(n=36), resamples=100) for s in (Knows(), Guesses(), Large())]
    plain, _, apart = Report(runs).differences
    assert apart.p["right"] == 1 and plain.p["right"] < 1 / 101


def test_one_scorer_and_one_benchmark_need_no_list():
    assert len(compare(Knows(), "toy-items", resamples=5).runs) == 1
    assert len(compare("toy-oracle", Toys(), resamples=5).runs) == 1


def test_a_scorer_differs_from_itself_by_nothing():
    (difference,) = compare([Knows(wrong=2), Knows(wrong=2)], [Toys()], resamples=50).differences
    assert difference.metrics["right"] == Interval(0.0, 0.0, 0.0)
    assert not excludes_zero(difference.metrics["right"])


def test_runs_on_other_items_or_seeds_are_not_subtracted():
    runs = [
        evaluate(Knows(), Toys(), resamples=20),
        evaluate(Guesses(), Toys(), resamples=20, seed=1),
        evaluate(Guesses(), Toys(n=6), resamples=20),
        evaluate(Guesses(), Toys(), resamples=30),
    ]
    assert Report(runs).differences == []
    with pytest.raises(InputError, match="one sample with one seed"):
        runs[0].bootstrap[""].difference(runs[1].bootstrap[""])


def test_json_has_its_schema_and_no_nan(report):
    content = report.to_json()
    about = {"title", "created", "command", "seconds", "versions"}
    assert set(content) == {"schema_version", "runs", "differences"} | about
    assert content["schema_version"] == 2
    run = content["runs"][1]
    assert set(run) == {
        "scorer", "benchmark", "metrics", "by_tag", "counts", "errors", "environment", "seconds",
        "data", "noise_floor",
    }  # fmt: skip
    assert run["benchmark"]["name"] == "Toys" and run["benchmark"]["items"] == 12
    assert set(run["metrics"]["right"]) == {"value", "low", "high"}
    assert run["metrics"]["undefined"] == {"value": None, "low": None, "high": None}
    assert set(run["by_tag"]["even"]) == {"right", "undefined"}
    assert run["environment"]["torch"]
    difference = content["differences"][0]
    assert (difference["first"], difference["second"]) == ("toy-oracle", "toy-guesser")
    assert difference["runs"] == [0, 1]
    assert difference["metrics"]["right"]["excludes_zero"] is True
    assert difference["metrics"]["undefined"]["excludes_zero"] is False
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize("scorer", ["toy-oracle", "toy-colours"])
def test_json_is_what_the_schema_that_ships_says(report, scorer):
    schema = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    content = compare([scorer, "toy-guesser"], [Toys(broken=1)], resamples=5, on_error="skip")
    for item in (report.to_json(), content.to_json()):
        validator.validate(item)
    broken = {**report.to_json(), "schema_version": 1}
    assert not validator.is_valid(broken), "the schema is of this version alone"
    assert schema["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


def test_reports_of_version_1_can_be_read(report, tmp_path):
    content = report.to_json()
    older = json.loads(json.dumps(content).replace('"significant"', '"told_apart"'))
    assert older != content
    older["version"] = older.pop("schema_version") - 1
    for number, version in enumerate((content, older)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(version))
        assert read_report(path) == content
    for text in ('{"schema_version": 3}', "[]", "no JSON"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"schema version|cannot be read"):
            read_report(path)


def test_a_report_that_version_1_wrote_is_read():
    path = FIXTURES / "reports" / "version-1.json"
    older, content = json.loads(path.read_text()), read_report(path)
    jsonschema.validate(content, SCHEMA)
    assert older["version"] == 1 and content["schema_version"] == 2
    for part in ("runs", "differences"):
        assert len(content[part]) == len(older[part]) > 0
    before, after = older["differences"][0]["metrics"], content["differences"][0]["metrics"]
    assert list(after) == ["text", "image", "group"]
    for name, figure in after.items():
        assert figure == {
            "significant" if key == "told_apart" else key: value
            for key, value in before[name].items()
        }


@pytest.mark.parametrize(
    "text",
    [
        '{"version": 1}',
        '{"schema_version": 2, "runs": []}',
        '{"version": 1, "runs": [3], "differences": []}',
        '{"version": 1, "runs": [{"metrics": []}], "differences": []}',
        '{"version": 1, "runs": null, "differences": []}',
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_report_is_named(text, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"{path} (is not a report|cannot be read)"):
        read_report(path)


def test_figures_are_a_table_too(report, tmp_path):
    report.write(tmp_path)
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 4 * 2  # scorers, all and three tags, metrics
    expected = {"benchmark": "Toys", "scorer": "toy-guesser", "tag": "even", "metric": "right"}
    (row,) = [r for r in rows if expected.items() <= r.items()]
    interval = report.runs[1].by_tag["even"]["right"]
    assert [float(row[key]) for key in ("value", "low", "high")] == list(interval)
    assert row["items"] == "6" and row["published"] == ""
    assert all(r["value"] == "" for r in rows if r["metric"] == "undefined")


def test_markdown_has_the_tables_and_nothing_that_users_wrote_acts(report, tmp_path):
    report.write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "| toy-oracle | 1.000 [1.000, 1.000] | – | 48 of 48 |" in text
    assert "| guessing | 0.250 |" in text and "no significant difference" in text
    assert "<script>" not in text and r"\<script\>alert(1)" in text
    Report([evaluate(Knows(), Toys(n=1))]).write(tmp_path / "one")
    report_text = (tmp_path / "one" / "report.md").read_text()
    assert "| Knows | 1.000 | – |" in report_text and "nan" not in report_text, (
        "one item has no interval"
    )
    tables = [line for line in text.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert cells[:4] == [5] * 4, "as many cells in every row"
    failed = compare([Knows(on_error="skip")], [Toys(broken=2)], resamples=5)
    failed.write(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Knows (failed on 4)" in text and "4 × not an image" in text


def test_the_same_seed_gives_the_same_report(report):
    again = compare(["toy-oracle", "toy-guesser"], [Toys()], resamples=200).to_json()
    for content in (again, first := report.to_json()):
        for part in (content, *content["runs"]):
            del part["seconds"]
        del content["created"]
    assert again == first


def test_the_folder_holds_all_files(report, tmp_path):
    page = report.write(tmp_path / "new" / "folder")
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "metrics.csv",
        "report.html",
        "report.json",
        "report.md",
        "samples.npz",
        "scores.csv",
    ]
    assert json.loads((page.parent / "report.json").read_text()) == report.to_json()
    with (page.parent / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 96
    assert rows[0] == {
        "benchmark": "Toys",
        "item": "toy-0",
        "image": "0",
        "image_name": "",
        "text_index": "0",
        "text": f"0 left {HOSTILE}",
        "scorer": "toy-oracle",
        "score": rows[0]["score"],
        "human": "",
        "error": "",
        "detail": "",
        "tags": f"even;{HOSTILE}",
        "generator": "",
    }
    assert float(rows[0]["score"]) == pytest.approx(0.9)


def test_a_folder_that_cannot_be_written_is_refused(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        report.write(tmp_path / "file")


def test_failures_are_counted_and_left_out(tmp_path):
    report = compare([Knows(on_error="skip")], [Toys(broken=2)], resamples=20)
    (run,) = report.runs
    assert run.counts.failed == 4 and run.counts.used == 44  # one bad image, four texts
    assert run.metrics["right"].value == 1.0
    assert list(run.errors.values()) == [4]
    rows = list(report.rows())
    assert {(r["item"], r["image"]) for r in rows if r["error"]} == {("toy-0", 0), ("toy-1", 0)}
    page = report.write(tmp_path).read_text()
    assert "4 failed" in page and "not an image that Pillow can read" in page
    with (tmp_path / "scores.csv").open(newline="") as stream:
        assert [r["score"] for r in csv.DictReader(stream) if r["error"]] == [""] * 4


def test_percentiles_count_ties_half_and_keep_nan():
    result = disagreement.percentiles([np.array([[1.0, 2.0]]), np.array([[2.0, np.nan, 5.0]])])
    np.testing.assert_allclose(result[0], [[0.125, 0.5]])
    np.testing.assert_allclose(result[1], [[0.5, np.nan, 0.875]])


def test_disagreement_is_where_scorers_differ(report):
    apart = disagreement.scorer_disagreement(report.runs)
    wrong = [n for n in range(12) if n % 3 == 0]
    assert apart.min() >= 0 and apart.max() <= 1
    assert set(np.argsort(-apart)[:4].tolist()) == set(wrong)
    assert not disagreement.scorer_disagreement(report.runs[:1]).any()
    chosen = disagreement.choose_items(apart, 8)
    assert set(chosen[:4]) == set(wrong) and len(set(chosen)) == 8, "the most telling come first"
    assert disagreement.choose_items(np.zeros(9), 3) == [0, 4, 8], (
        "nothing is telling: evenly spread"
    )
    assert sorted(disagreement.choose_items(apart, 50)) == list(range(12))


def test_the_chart_leaves_out_what_is_undefined_and_reads_no_mathematics():
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    svg = forest(["$all$", "a & <b>"], {"m": [[Interval(0.5, 0.4, 0.6), nothing]]}, {"m": 0.25})
    assert svg.startswith("<svg") and "a &amp; &lt;b&gt;" in svg and "$all$" in svg
    assert "var(--s0)" in svg and "currentColor" in svg
    assert svg == forest(
        ["$all$", "a & <b>"], {"m": [[Interval(0.5, 0.4, 0.6), nothing]]}, {"m": 0.25}
    )
    assert forest(["all"], {"m": [[nothing]]}, {}).startswith("<svg")


def test_scorers_of_one_name_are_told_apart():
    again = compare(
        [Knows(question_template="a {}"), Knows(question_template="b {}"), Guesses()],
        [Toys()],
        resamples=5,
    )
    assert again.labels == ["Knows [a {}]", "Knows [b {}]", "Guesses"]
    assert compare([Knows(), Knows()], [Toys()], resamples=5).labels == ["Knows #1", "Knows #2"]


def test_names_and_data_are_checked_before_anything_is_scored():
    class Gone(Toys):
        def items(self):
            raise BenchmarkDataError("not here")

    class Never(Knows):
        def score_cells(self, *_):
            raise AssertionError("scored")

    with pytest.raises(BenchmarkDataError, match="not here"):
        compare([Never()], [Toys(), Gone()])
    with pytest.raises(UnknownNameError, match="Did you mean 'toy-guesser'"):
        compare([Never(), "toy-guesse"], [Toys()])
    with pytest.raises(UnknownNameError, match="Did you mean 'toy-items'"):
        compare([Never()], [Toys(), "toy-colours"])
    with pytest.raises(InputError, match="at least one scorer"):
        compare([], [Toys()])


def test_a_benchmark_finds_its_folder(tmp_path):
    assert open_benchmark("toy-items", tmp_path).root == tmp_path
    (tmp_path / "toy-items").mkdir()
    assert open_benchmark("toy-items", tmp_path).root == tmp_path / "toy-items"


def test_an_option_that_no_scorer_would_get_is_refused(tmp_path):
    with pytest.raises(InputError, match="`store=` is an option of scorers that are passed by"):
        compare([Knows(), Guesses()], Toys(), store=tmp_path / "s.sqlite")
    assert not (tmp_path / "s.sqlite").exists()
    assert compare(Knows(), Toys(), resamples=5, on_error="skip").runs  # of benchmarks too


def test_several_benchmarks_come_one_after_the_other():
    class Other(Toys):
        def __init__(self):
            super().__init__(n=4, card=BenchmarkCard("other", "Other", __name__))

    report = compare([Knows(), Guesses()], [Toys(), Other()], resamples=5)
    assert [(r.benchmark.name, r.scorer.name) for r in report.runs] == [
        ("Toys", "Knows"),
        ("Toys", "Guesses"),
        ("other", "Knows"),
        ("other", "Guesses"),
    ]
    assert [(d.first, d.second) for d in report.differences] == [(0, 1), (2, 3)]
    assert page_of(report).count("<section") == 3


def page_of(report):
    return render(report.runs, report.labels, report.differences)


def test_empty_benchmarks_are_refused():
    class Empty(Benchmark):
        def items(self):
            return []

        def metrics(self, items, scores):
            return {}

    with pytest.raises(InputError, match="has no items"):
        evaluate(Knows(), Empty())


def test_a_report_says_what_it_is_and_when_it_was_made(tmp_path):
    report = compare(["toy-oracle", "toy-guesser"], [Toys()], resamples=5)
    created = datetime.fromisoformat(report.about.created)
    assert created.tzinfo is not None and abs(datetime.now(UTC) - created).total_seconds() < 600
    assert report.about.title == "toy-oracle and toy-guesser on Toys"
    assert 0 < report.about.seconds < 600 and report.about.versions["torch"]
    assert "device" not in report.about.versions and report.about.command is None
    report.about = replace(report.about, title=f"a {HOSTILE}", command=["eval", "-b", HOSTILE])
    page = report.write(tmp_path).read_text()
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    content = read_report(tmp_path / "report.json")
    assert content["title"] == f"a {HOSTILE}" and content["command"] == ["eval", "-b", HOSTILE]
    jsonschema.validate(content, SCHEMA)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith(r"# a \<script\>") and "Command: t2v-eval eval -b" in text
    loaded = Report.load(tmp_path)
    assert loaded.about == report.about


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["--option", "api_key=abc"], ["--option", "api_key=***"]),
        (["--option", "temperature=0"], ["--option", "temperature=0"]),
        (["--api-key", "abc", "-b", "x"], ["--api-key", "***", "-b", "x"]),
        (["--secret=abc"], ["--secret=***"]),
        (["sk-abcdefghijklmnop1234"], ["***"]),
        (["hf_abcdefghijklmnopqrstu"], ["***"]),
        (["--out", "https://u:p@host/a"], ["--out", "https://***@host/a"]),
        (["--model", "openai-compatible:m"], ["--model", "openai-compatible:m"]),
    ],
)
def test_a_command_is_kept_without_secrets(arguments, kept):
    assert without_secrets(arguments) == kept


def test_titles_name_generators_and_count_many():
    folders = [FolderFacts(name, 2, 2) for name in ("flux", "sdxl")]
    run = evaluate(Knows(), Toys(n=2), resamples=2)
    generators = replace(run, benchmark=replace(run.benchmark, folders=folders))
    assert title_of([generators]) == "flux and sdxl on Toys"
    many = [replace(run, scorer=replace(run.scorer, name=f"s{n}")) for n in range(4)]
    assert title_of(many) == "4 scorers on Toys"
