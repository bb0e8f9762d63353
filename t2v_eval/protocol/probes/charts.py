"""Draw the charts of probes with the colours of the page."""

from __future__ import annotations

from t2v_eval.protocol.probes.inputs import IntervalChart, PointChart, ProbeResult
from t2v_eval.report.chart import forest
from t2v_eval.report.format import CONSOLE, Style
from t2v_eval.report.plots import Pairing, scatter

MAX_ROWS = 24
"""Rows of a chart; more would be longer than a screen."""


def probe_value(result: ProbeResult, style: Style = CONSOLE) -> str:
    """Return the number of a probe with its interval and unit; empty where it is not measured.

    Args:
        result: of a probe.
        style: the characters of numbers.

    >>> from t2v_eval.protocol.probes.inputs import not_measured
    >>> probe_value(not_measured("inflation", "Do words raise the score?", "no prompts"))
    ''
    """
    if result.reason is not None:
        return ""
    sign = "" if result.unit.startswith("share") else "+"
    value = style.number(result.value, 3, sign)
    if result.low == result.high:
        return f"{value} {result.unit}"
    low, high = (style.number(limit, 3, sign) for limit in (result.low, result.high))
    return f"{value} [{low}, {high}] {result.unit}"


def draw(result: ProbeResult) -> str:
    """Return the chart of a probe as an ``<svg>`` element; empty without one.

    Args:
        result: of a probe.

    >>> from t2v_eval.protocol.probes.inputs import not_measured
    >>> draw(not_measured("inflation", "Do words raise the score?", "no prompts"))
    ''
    """
    chart = result.chart
    if isinstance(chart, PointChart):
        return scatter([Pairing(chart.x_label, chart.y_label, 0, chart.x, chart.y)], colours=1)
    if not isinstance(chart, IntervalChart) or not chart.figures:
        return ""
    figures = sorted(chart.figures, key=lambda f: -abs(f.interval.value - chart.reference))
    selected = [figure for figure in chart.figures if figure in figures[:MAX_ROWS]]
    return forest(
        [figure.label for figure in selected],
        {chart.title: [[figure.interval for figure in selected]]},
        {chart.title: chart.reference},
        whole_scale=False,
    )
