"""A plugin of pytest: the fixture `assert_not_worse`. It imports the library when it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from t2v_eval.report.gate.results import GateResult
    from t2v_eval.report.report import Report


def assert_not_worse(
    report: Report | str | Path,
    baseline: Report | str | Path,
    margin: float = 0.01,
    *,
    alpha: float = 0.05,
    metric: str | None = None,
) -> GateResult:
    """Assert that a report is not worse than a baseline by more than a margin; see `not_worse`.

    Args:
        report: a report, or the folder of one.
        baseline: the report, or folder, to compare with.
        margin: how much worse still passes, on the scale of the metric; with 0, only what is shown
            to be higher passes.
        alpha: the probability that something passes that is worse by the margin.
        metric: the metric to compare; see `not_worse`.

    Raises:
        AssertionError: something is worse, or may be; the message has every comparison.
        InputError: the reports cannot be compared.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 4}, resamples=50)
    >>> len(assert_not_worse(report, report, margin=0.01).checks)
    1
    """
    from t2v_eval.report.gate.checks import not_worse

    __tracebackhide__ = True
    result = not_worse(report, baseline, margin, alpha=alpha, metric=metric)
    if not result.passed:
        lines = [f"{check.sentence}: {check.verdict}" for check in result.checks]
        raise AssertionError("\n".join([*lines, *result.notes]))
    return result


@pytest.fixture(name="assert_not_worse")
def _assert_not_worse() -> Callable[..., GateResult]:
    """Return `assert_not_worse`: a test calls it with a report, a baseline and a margin."""
    return assert_not_worse
