"""Forest plots: where dots, intervals and the line of guessing are."""

from __future__ import annotations

import pytest

from t2v_eval.report import chart
from t2v_eval.stats.bootstrap import Interval

ROWS = ["all", "colour"]
VALUES = [[Interval(0.6, 0.5, 0.7), Interval(0.2, 0.1, 0.4)]]


@pytest.fixture
def draw(monkeypatch):
    """Draw panels and return their axes instead of SVG."""
    monkeypatch.setattr(chart.svg, "inline", lambda figure, *_: figure.axes)
    return chart.forest


@pytest.mark.parametrize("chance", [0.25, 1 / 6, 0.5])
def test_the_line_of_guessing_is_at_its_value(draw, chance):
    (axes,) = draw(ROWS, {"accuracy": VALUES}, {"accuracy": chance})
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in dashed] == [[chance, chance]]


def test_a_metric_without_a_chance_has_no_such_line(draw):
    with_chance, without = draw(ROWS, {"a": VALUES, "b": VALUES}, {"a": 0.5})
    assert len(with_chance.lines) == len(without.lines) + 1


def test_dots_and_intervals_are_where_the_values_are_and_the_first_row_is_on_top(draw):
    (axes,) = draw(ROWS, {"accuracy": VALUES}, {})
    (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(dots.get_xdata()) == [0.6, 0.2]
    height = axes.transData.transform([(0, y) for y in dots.get_ydata()])[:, 1]
    assert height[0] > height[1]
    (bars,) = axes.collections
    assert [[x for x, _ in segment] for segment in bars.get_segments()] == [[0.5, 0.7], [0.1, 0.4]]


def test_rows_of_several_scorers_do_not_overlap(draw):
    (axes,) = draw(ROWS, {"accuracy": VALUES * 3}, {})
    places = [y for line in axes.lines if line.get_marker() in "osD" for y in line.get_ydata()]
    assert len(set(places)) == 6
    assert sorted(round(y) for y in places) == [0, 0, 0, 1, 1, 1]
