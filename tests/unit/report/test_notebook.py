"""A report in a notebook: DataFrames, tables as HTML, a figure, and what `repr` says."""

from __future__ import annotations

import csv
import html.parser
import io
import pickle
import sys

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Toys
from helpers.toy import ToyEmbedding
from PIL import Image

import t2v_eval
from t2v_eval import Report
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, MissingPackageError, UnsupportedError

HOSTILE = "<script>alert(1)</script>&\x1b[31m\ud800"


def scorer(name="toy", scale=1.0):
    return ToyEmbedding(scale, card=ModelCard(name, "ToyEmbedding", "toy"), device="cpu")


@pytest.fixture(scope="module")
def report():
    return t2v_eval.compare([scorer(), scorer("other", 2.0)], [Toys()], resamples=20)


class Parts(html.parser.HTMLParser):
    """The tags and the text of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f" {data}"


def test_frames_are_the_tables_of_the_folder(report, tmp_path):
    figures, scores = report.to_pandas()
    report.write(tmp_path)
    for frame, name in ((figures, "metrics.csv"), (scores, "scores.csv")):
        with (tmp_path / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(frame.columns) == list(rows[0]) and len(frame) == len(rows)
    assert scores.score.dtype == np.float64 and figures.published.dtype == np.float64
    np.testing.assert_allclose(scores.score, [float(r["score"]) for r in rows], rtol=1e-6)
    loaded = Report.load(tmp_path).to_pandas()
    np.testing.assert_allclose(loaded.figures.value, figures.value, equal_nan=True)
    assert loaded.scores.text.tolist() == scores.text.tolist()
    (tmp_path / "scores.csv").unlink()
    with pytest.raises(UnsupportedError, match=r"scores\.csv"):
        Report.load(tmp_path).to_pandas()


def test_without_pandas_it_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingPackageError, match=r"pip install 't2v-eval\[pandas\]'"):
        report.to_pandas()


def test_html_has_the_sentences_and_the_tables(report):
    parts = Parts(report._repr_html_())
    assert not parts.open and parts.tags.isdisjoint({"script", "style", "img", "link", "iframe"})
    first = report.runs[0]
    value = first.metrics[first.benchmark.headline].value
    assert f"{value:.3f}" in parts.text and "toy - other" in parts.text
    assert "95 % intervals" in parts.text


def test_hostile_names_are_text(report):
    benchmark = Toys()
    benchmark.card = type(benchmark.card)(HOSTILE, "Toys", "toy", note=HOSTILE)
    hostile = t2v_eval.compare([scorer(HOSTILE), scorer()], [benchmark], resamples=5)
    text = hostile._repr_html_()
    assert "<script" not in text and "\x1b" not in text and "&lt;script&gt;" in text
    text.encode()
    assert Parts(text).tags.isdisjoint({"script"})
    assert "\x1b" not in repr(hostile)
    repr(hostile).encode()
    hostile.plot().savefig("/dev/null", format="png")


def test_a_figure_shows_each_interval(report):
    figure = report.plot()
    first = report.runs[0]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == first.benchmark.headline and set(titles) <= set(first.metrics)
    headline = first.benchmark.headline
    marked = {
        round(float(line.get_xdata()[0]), 9)
        for line in figure.axes[0].lines
        if len(line.get_xdata()) and line.get_marker() not in ("None", "")
    }
    assert {round(run.metrics[headline].value, 9) for run in report.runs} <= marked
    (legend,) = figure.subfigs[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["toy", "other"]
    name = titles[-1]
    assert [a.get_title(loc="left") for a in report.plot([name]).axes] == [name]


def test_a_notebook_shows_a_figure_without_pyplot(report):
    image = Image.open(io.BytesIO(report.plot()._repr_png_()))
    assert image.format == "PNG" and image.width >= 800
    assert len(set(image.convert("L").tobytes())) > 2, "not blank"


def test_what_cannot_be_plotted(report):
    with pytest.raises(InputError, match="no metric 'no such' to plot; there are"):
        report.plot(["no such"])
    with pytest.raises(InputError, match=r"pass a list of names"):
        report.plot("group")
    with pytest.raises(InputError, match="nothing to plot"):
        Report([]).plot()


def test_repr_says_what_was_measured(report, tmp_path):
    first, second = repr(report).splitlines()
    assert first == "Report of 2 runs" and "toy" in second and "other" in second
    assert len(second) < 400
    run = report.runs[0]
    value, low, high = run.metrics[run.benchmark.headline]
    assert f"{run.benchmark.headline} {value:.3f} [{low:.3f}, {high:.3f}]" in repr(run)
    assert "'toy'" in repr(run) and f"{len(run.items)} items" in repr(run)
    assert len(repr(run)) < 300
    report.write(tmp_path)
    assert repr(Report.load(tmp_path)) == repr(report)
    assert repr(Report([])) == "Report of 0 runs" and Report([])._repr_html_() == "<div></div>"


def test_a_report_can_be_pickled():
    report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    again = pickle.loads(pickle.dumps(report))
    assert again.to_json() == report.to_json()
