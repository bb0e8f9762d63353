"""Verdicts and p-values as text."""

from __future__ import annotations

import pytest

from t2v_eval.report.format import CONSOLE, MARKDOWN, NOT_SIGNIFICANT, verdict
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue


@pytest.mark.parametrize(
    ("p_holm", "difference", "expected"),
    [
        (0.01, 0.1, "first is better"),
        (0.01, -0.1, "second is better"),
        (0.05, 0.1, NOT_SIGNIFICANT),
        (0.9, 0.1, NOT_SIGNIFICANT),
        (float("nan"), 0.1, NOT_SIGNIFICANT),
    ],
)
def test_the_better_one_has_the_higher_metric(p_holm, difference, expected):
    interval = Interval(difference, difference - 0.2, difference + 0.2)
    assert verdict(PValue(0.001, p_holm), interval, "first", "second") == expected


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.001"), (0.0009, "< 0.001"), (0.001, "0.001"), (1.0, "1.000")]
)
def test_a_small_p_is_a_bound(p, text):
    assert CONSOLE.p_value(p) == text


def test_an_undefined_value_or_interval_is_no_number():
    nan = float("nan")
    assert MARKDOWN.interval(Interval(nan, nan, nan)) == "–"
    assert MARKDOWN.interval(Interval(0.5, nan, nan)) == "0.500"
