"""The figures of a report in TensorBoard or Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.report.report import Report


def log_report(report: Report, tracker: Any, step: int = 0) -> int:
    """Log each figure of a report, with the limits of its interval.

    A figure is called ``BENCHMARK/SCORER/METRIC``, with the tag behind it, and its limits have
    ``/low`` and ``/high`` behind that. A figure that is missing is not logged.

    Args:
        report: a report.
        tracker: a `SummaryWriter` of TensorBoard, or a run of Weights & Biases.
        step: the step that the figures belong to.

    Returns:
        The number of values that were logged.

    Raises:
        InputError: the tracker is neither.

    >>> import t2v_eval
    >>> class Writer:
    ...     def add_scalar(self, name, value, step):
    ...         logged[name] = value
    >>> logged, few = {}, {"n": 2}
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options=few, resamples=5)
    >>> log_report(report, Writer()) == len(logged), min(logged)
    (True, 'scenes/tiny-clip/group')
    """
    values = dict(_values(report))
    if hasattr(tracker, "add_scalar"):
        for name, value in values.items():
            tracker.add_scalar(name, value, step)
    elif hasattr(tracker, "log"):
        tracker.log(values, step=step)
    else:
        raise InputError(
            f"`tracker=` must be a SummaryWriter or a run of W&B, not {type(tracker).__name__}"
        )
    return len(values)


def _values(report: Report) -> Iterator[tuple[str, float]]:
    for figure in report.figures():
        parts = (figure[key] for key in ("benchmark", "scorer", "metric", "tag"))
        name = "/".join(str(part) for part in parts if part)
        for suffix, key in (("", "value"), ("/low", "low"), ("/high", "high")):
            value = figure[key]
            if value is not None and value == value:
                yield name + suffix, float(value)
