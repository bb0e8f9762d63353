"""What others published on a benchmark stands once beside the figures of a report."""

import json
from html.parser import HTMLParser
from importlib.resources import files

import jsonschema
import pytest
from helpers.benchmarks.toy_benchmark import HOSTILE, Guesses, Knows, Toys

import t2v_eval
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.report import html, markdown
from t2v_eval.report.report import Report

PUBLISHED = {
    "undefined": {"Low": 0.9, "Only": 0.4, "source": "another paper"},
    "right": {"Low": 0.1, "Middle": 0.5, "Paper's": 0.7, "High": 0.987, "source": "a paper"},
}
ROWS = [  # from the highest of the headline; those without it below, by the other metric
    ["High", "0.987", ""],
    ["Paper's", "0.700", ""],
    ["Middle", "0.500", ""],
    ["Low", "0.100", "0.900"],
    ["Only", "", "0.400"],
]


def of_a_paper(**options):
    return Knows(card=ModelCard("mine", "Knows", "test", aliases=["Paper's"]), **options)


def report_of(published, scorers=None, **options):
    card = BenchmarkCard("with-figures", "Toys", "test", published=published)
    scorers = scorers or [of_a_paper(), Guesses()]
    return t2v_eval.compare(scorers, [Toys(card=card)], resamples=5, **options)


def rendered(module, report):
    return module.render(report.runs, report.labels, report.differences)


class Details(HTMLParser):
    """The `<details>` of a page: attributes, summary, text and the cells of their tables."""

    def __init__(self, page):
        super().__init__()
        self.found, self.path = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "details":
            self.found.append(
                {"open": "open" in dict(attributes), "summary": "", "text": "", "rows": []}
            )
        self.path.append(tag)
        if "details" in self.path:
            if tag == "tr":
                self.found[-1]["rows"].append([])
            elif tag in ("th", "td"):
                self.found[-1]["rows"][-1].append("")

    def handle_endtag(self, tag):
        while self.path and self.path.pop() != tag:
            pass

    def handle_data(self, data):
        if "details" not in self.path:
            return
        details = self.found[-1]
        details["text"] += data
        if "summary" in self.path:
            details["summary"] += data
        elif {"th", "td"} & {*self.path}:
            details["rows"][-1][-1] += data


def published_on(page):
    return [d for d in Details(page).found if d["summary"].startswith("published figures")]


def test_the_page_has_one_closed_table_for_all_scorers():
    page = rendered(html, report_of(PUBLISHED))
    (details,) = published_on(page)
    assert not details["open"] and details["summary"] == "published figures of 5 scorers"
    head, *rows = details["rows"]
    assert head == ["published scorer", "right", "undefined"]
    rows[1][0] = rows[1][0].replace("● ", "").replace("in this report: mine", "")
    assert rows == ROWS
    assert "right from a paper; undefined from another paper." in details["text"]
    assert page.count("published: 0.700") == 1, "the figure of the scorer that was run"


def test_rows_of_scorers_of_the_report_are_marked():
    scorers = [of_a_paper(), of_a_paper(wrong=2), Guesses()]
    published = {"right": {"Guesses": 0.2, "Paper's": 0.7, "Other": 0.1, "source": "a paper"}}
    (details,) = published_on(rendered(html, report_of(published, scorers)))
    assert [row[0] for row in details["rows"][1:]] == [
        "● ■ Paper'sin this report: mine #1, mine #2",
        "◆ Guessesin this report",
        "Other",
    ]
    assert "Published: a paper." in details["text"]
    text = rendered(markdown, report_of(published, scorers))
    assert "| Paper's (in this report: mine \\#1, mine \\#2) | 0.700 |" in text
    assert "| Guesses (in this report) | 0.200 |\n| Other | 0.100 |" in text


def test_markdown_has_the_table():
    text = rendered(markdown, report_of(PUBLISHED))
    assert "### published figures of 5 scorers\n" in text
    lines = [f"| {' | '.join(row)} |" for row in ROWS]
    lines[1] = "| Paper's (in this report: mine) | 0.700 |  |"
    head = ["| published scorer | right | undefined |", "| --- | --- | --- |"]
    assert "\n\n" + "\n".join([*head, *lines]) + "\n\n" in text
    assert "Published: right from a paper; undefined from another paper." in text


def test_markdown_has_the_best_of_many_and_the_scorers_of_the_report():
    values = {f"s{n}": n / 100 for n in range(30)} | {"Paper's": 0.001}
    report = report_of({"right": values})
    text = rendered(markdown, report)
    assert "### published figures of 31 scorers; report.json has 18 lower ones\n" in text
    table = text[text.index("| published scorer") :].split("\n\n")[0].splitlines()[2:]
    best = [f"| s{n} | {n / 100:.3f} |" for n in range(29, 17, -1)]
    assert table == [*best, "| Paper's (in this report: mine) | 0.001 |"]
    (details,) = published_on(rendered(html, report))
    assert len(details["rows"]) == 1 + 31


def test_a_notebook_has_the_table():
    (details,) = published_on(report_of(PUBLISHED)._repr_html_())
    assert [row[1:] for row in details["rows"][1:]] == [row[1:] for row in ROWS]
    assert "undefined from another paper" in details["text"]


def test_names_and_sources_are_text():
    report = report_of({"right": {HOSTILE: 0.5, "source": HOSTILE}})
    page, text, notebook = (
        rendered(html, report),
        rendered(markdown, report),
        report._repr_html_(),
    )
    (details,) = published_on(page)
    assert details["rows"][1][0] == HOSTILE and details["text"].count(HOSTILE) == 2
    for output in (page, text, notebook):
        assert "<script>alert" not in output
    assert text.count("\\<script\\>alert(1)") >= 2 and "Published: \\<script" in text


def test_json_has_all_figures_and_a_loaded_report_too(tmp_path):
    report = report_of(PUBLISHED)
    content = report.to_json()
    schema = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text("utf-8"))
    jsonschema.validate(content, schema)
    for run in content["runs"]:
        assert run["benchmark"]["published_tables"] == {
            "right": {
                "values": {"Low": 0.1, "Middle": 0.5, "Paper's": 0.7, "High": 0.987},
                "source": "a paper",
            },
            "undefined": {"values": {"Low": 0.9, "Only": 0.4}, "source": "another paper"},
        }
    assert [run["benchmark"]["published"] for run in content["runs"]] == [
        {"right": {"value": 0.7, "source": "a paper", "name": "Paper's"}},
        {},
    ]
    report.write(tmp_path)
    loaded = Report.load(tmp_path)
    assert [r.benchmark.published_tables for r in loaded.runs] == [
        r.benchmark.published_tables for r in report.runs
    ]
    assert published_on(loaded._repr_html_()) == published_on(report._repr_html_())


def test_reports_without_the_tables_are_loaded(tmp_path):
    report = report_of(PUBLISHED)
    report.write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    for run in content["runs"]:
        del run["benchmark"]["published_tables"]
        for figure in run["benchmark"]["published"].values():
            del figure["name"]
    (tmp_path / "report.json").write_text(json.dumps(content))
    loaded = Report.load(tmp_path)
    assert [run.benchmark.published_tables for run in loaded.runs] == [{}, {}]
    assert [row["published"] for row in loaded.figures()] == [
        row["published"] for row in report.figures()
    ]
    assert not published_on(loaded._repr_html_())


@pytest.mark.parametrize("part", [{"limit": 6}, {"subset": "even"}])
def test_a_part_of_a_benchmark_has_none(part):
    report = report_of(PUBLISHED, **part)
    assert {str(r.benchmark.published_tables) for r in report.runs} == {"{}"}
    assert not published_on(rendered(html, report))
    assert "ublished" not in rendered(markdown, report)


def test_a_benchmark_without_published_figures_has_no_table():
    for published in ({}, {"right": {"source": "a paper"}}):
        report = report_of(published)
        assert not published_on(rendered(html, report))
        assert "ublished" not in rendered(markdown, report)
