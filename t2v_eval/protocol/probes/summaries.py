"""Intervals that hold together over scorers, and the words of a paragraph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t2v_eval.protocol.probes.inputs import ProbeFigure, ProbeInputs, ProbeScorer
from t2v_eval.stats.bootstrap import Interval, bootstrap_interval
from t2v_eval.stats.intervals import share_of
from t2v_eval.utils.arrays import FloatArray

NOTABLE = 0.1
"""Standard deviations of scores, or a correlation, from which an effect is worth a warning: with
enough prompts, any effect differs from 0 (a small effect in Cohen 1988 is 0.2 or a correlation of
0.1)."""


def confidence(inputs: ProbeInputs, tests: int) -> float:
    """Return the confidence of intervals that hold together over several tests (Bonferroni).

    Args:
        inputs: whose `level` is the probability that any of them fails.
        tests: how many intervals there are.
    """
    return 1 - inputs.level / max(1, tests)


def mean_interval(values: FloatArray, inputs: ProbeInputs, tests: int = 1) -> Interval:
    """Return the mean of a value for each prompt, with a bootstrap interval over prompts.

    Args:
        values: shape (P,); NaN is left out.
        inputs: the seed and number of resamples.
        tests: how many intervals hold together.
    """
    present = values[~np.isnan(values)]
    return bootstrap_interval(
        lambda index: {"mean": float(present[index].mean()) if len(index) else np.nan},
        len(present),
        resamples=inputs.resamples,
        confidence=confidence(inputs, tests),
        seed=inputs.images.seed,
    )["mean"]


def share_interval(values: FloatArray, inputs: ProbeInputs, tests: int = 1) -> Interval:
    """Return a share of prompts, with an interval (Wilson's where each value is 0 or 1).

    Args:
        values: shape (P,), 0 to 1; NaN is left out.
        inputs: the seed and number of resamples.
        tests: how many intervals hold together.
    """
    present = values[~np.isnan(values)]
    return bootstrap_interval(
        lambda index: {"share": share_of(present[index])},
        len(present),
        resamples=inputs.resamples,
        confidence=confidence(inputs, tests),
        seed=inputs.images.seed,
    )["share"]


def strongest(figures: Sequence[ProbeFigure], neutral: float = 0.0) -> ProbeFigure:
    """Return the figure that is farthest from no effect.

    Args:
        figures: one or more.
        neutral: the value of no effect.

    >>> near, far = (ProbeFigure(str(v), Interval(v, v, v), 9) for v in (0.1, -0.3))
    >>> strongest([near, far]).label
    '-0.3'
    """
    return max(figures, key=lambda figure: abs(figure.interval.value - neutral))


def signed(interval: Interval, digits: int = 2) -> str:
    """Return a change with its interval.

    >>> signed(Interval(0.25, -0.5, 1.0))
    '+0.25 [-0.50, +1.00]'
    """
    low, high = (f"{limit:+.{digits}f}" for limit in interval[1:])
    return f"{interval.value:+.{digits}f} [{low}, {high}]"


def percent(interval: Interval) -> str:
    """Return a share with its interval in percent.

    >>> percent(Interval(0.25, 0.2, 0.311))
    '25.0 % [20.0, 31.1]'
    """
    low, high = (f"{100 * limit:.1f}" for limit in interval[1:])
    return f"{100 * interval.value:.1f} % [{low}, {high}]"


def others(figures: Sequence[ProbeFigure], main: ProbeFigure, digits: int = 2) -> str:
    """Return a sentence with the numbers of the other scorers; empty without any.

    >>> one, two = (ProbeFigure(name, Interval(0.1, 0.0, 0.2), 9) for name in "ab")
    >>> others([one, two], one)
    ' Other scorers: b +0.10 [+0.00, +0.20].'
    """
    rest = [f"{f.label} {signed(f.interval, digits)}" for f in figures if f is not main]
    return f" Other scorers: {', '.join(rest)}." if rest else ""


class Rescored:
    """The new scores of a probe, scorer by scorer, and what failed.

    Args:
        name: of the probe.
        inputs: what the probe gets.
    """

    def __init__(self, name: str, inputs: ProbeInputs) -> None:
        new = {s.name: s.new[name] for s in inputs.scorers if name in s.new}
        self._scorers = [scorer for scorer in inputs.scorers if scorer.name in new]
        self._new = new
        self._text_scorers = len(inputs.text_scorers)
        self.cells = sum(scores.cells for scores in new.values())
        self.failed: dict[str, int] = {}
        for scores in new.values():
            for reason, count in scores.failed.items():
                self.failed[reason] = self.failed.get(reason, 0) + count
        errors = {label: scores.error for label, scores in new.items() if scores.error}
        self._errors = "; ".join(f"{label}: {error}" for label, error in errors.items())

    def scorers(self) -> Iterator[tuple[ProbeScorer, Mapping[str, FloatArray]]]:
        """Yield each scorer that has new scores, and these by what was scored."""
        for scorer in self._scorers:
            if self._new[scorer.name].error is None:
                yield scorer, self._new[scorer.name].values

    @property
    def remarks(self) -> str:
        """What failed, as the last sentences of a paragraph; empty where nothing did."""
        text = f" Not scored: {self._errors.rstrip('.')}." if self._errors else ""
        if self.failed:
            reason, count = max(self.failed.items(), key=lambda pair: pair[1])
            text += f" {sum(self.failed.values())} of {self.cells} cells failed"
            text += f", most ({count}) because: {reason.rstrip('.')}."
        return text

    def why(self, otherwise: str) -> str:
        """Return why the probe is not measured.

        Args:
            otherwise: the reason where scorers read prompts and did not fail.
        """
        if not self._text_scorers:
            return "no scorer reads the prompt"
        return f"{otherwise}.{self.remarks}".rstrip(".")
