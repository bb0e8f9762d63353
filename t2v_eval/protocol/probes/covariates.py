"""Does the difference go with saturation, contrast, sharpness or detail?

Two looks at it. A regression of the difference on the differences of the four statistics needs no
new score, but sees only what goes together. An edit of the images is an experiment: where the
generators differ in a statistic, the images that have more of it are brought to the level of the
others and scored again, and what the difference loses is what the statistic accounts for.

Both can be wrong by chance for one of four statistics and several scorers, so p-values are
corrected over all (Holm), a statistic is edited only if the generators are shown to differ in it,
and an effect below `NOTABLE` standard deviations of the score is not warned of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.inputs import (
    MIN_PROMPTS,
    STATISTIC_NAMES,
    IntervalChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    ProbeScorer,
    mean_of_seeds,
    not_measured,
)
from t2v_eval.protocol.probes.summaries import NOTABLE, Rescored, mean_interval, signed
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue, corrected
from t2v_eval.stats.regression.paired_differences import AdjustedDifference, adjust_difference
from t2v_eval.utils.arrays import mean_of_known

NAME = names.COVARIATES
QUESTION = "Does the difference go with saturation, contrast, sharpness or detail?"


@dataclass(frozen=True, slots=True)
class Effect:
    """What one statistic accounts for of the difference on one scorer.

    Attributes:
        scorer: the scorer.
        statistic: a key of `STATISTICS`.
        by: "edit" or "regression".
        part: of the difference model - baseline, in standard deviations of the scorer's scores.
        n: prompts.
        p: that the generators do not differ in the statistic, or that scores do not follow it.
    """

    scorer: ProbeScorer
    statistic: str
    by: str
    part: Interval
    n: int
    p: float

    @property
    def figure(self) -> ProbeFigure:
        """Return the effect as report and chart show it."""
        label = f"{self.statistic} by {self.by}, {self.scorer.name}"
        return ProbeFigure(label, self.part, self.n, self.scorer.id)


def covariates(inputs: ProbeInputs) -> ProbeResult:
    """Measure what image statistics account for of the difference between the generators.

    Args:
        inputs: scores and images. Each image of one generator was scored once more for each
            statistic in which the generators differ, by each scorer that runs on this machine.
    """
    images = inputs.images
    if len(images.prompts) < MIN_PROMPTS:
        few = f"there are {len(images.prompts)} prompts, and {MIN_PROMPTS} or more are needed"
        return not_measured(NAME, QUESTION, few)
    rescored = Rescored(NAME, inputs)
    failed = {**images.failed, **rescored.failed}
    scorers = [scorer for scorer in inputs.scorers if scorer.spread > 0]
    if not scorers or np.isnan(images.gaps).all():
        why = "no scorer has scores that vary" if not scorers else "no image can be read"
        return not_measured(NAME, QUESTION, why, failed)
    remarks: list[str] = []
    adjusted = dict(_regressions(inputs, scorers, remarks))
    effects = [e for scorer in scorers for e in _of_regression(scorer, adjusted)]
    effects += _of_edits(inputs, scorers, rescored, remarks)
    if not effects:
        return not_measured(NAME, QUESTION, "; ".join(remarks), failed)
    tests = corrected({k: effect.p for k, effect in enumerate(effects)})
    notable = [e for k, e in enumerate(effects) if _is_notable(e, tests[k], inputs.level)]
    main = max(notable or effects, key=lambda effect: abs(effect.part.value))
    return ProbeResult(
        NAME,
        QUESTION,
        _statement(inputs, main, notable, adjusted, remarks) + rescored.remarks,
        *main.part,
        unit="standard deviations of the score",
        n=main.n,
        warning=bool(notable),
        chart=IntervalChart(
            "part, sd of the score",
            [effect.figure for effect in effects],
        ),
        figures=[*(effect.figure for effect in effects), *_adjusted_figures(adjusted)],
        source=main.scorer.id,
        cells=rescored.cells,
        failed=failed,
    )


def _is_notable(effect: Effect, test: PValue, level: float) -> bool:
    return test.p_holm < level and abs(effect.part.value) >= NOTABLE


def _regressions(
    inputs: ProbeInputs, scorers: Sequence[ProbeScorer], remarks: list[str]
) -> Iterator[tuple[str, AdjustedDifference]]:
    """Yield the regression of each scorer, in standard deviations of its scores."""
    gaps = inputs.images.gaps
    finite = [column[~np.isnan(column)] for column in gaps.T]
    usable = [k for k, column in enumerate(finite) if len(column) and np.ptp(column) > 0]
    for scorer in scorers:
        try:
            fit = adjust_difference(
                scorer.differences / scorer.spread,
                gaps[:, usable],
                [STATISTIC_NAMES[k] for k in usable],
                resamples=inputs.resamples,
                seed=inputs.images.seed,
            )
        except InputError as error:
            remarks.append(f"{scorer.name} has no regression: {error}")
        else:
            yield scorer.name, fit


def _of_regression(
    scorer: ProbeScorer, adjusted: Mapping[str, AdjustedDifference]
) -> Iterator[Effect]:
    if scorer.name in adjusted:
        fit = adjusted[scorer.name]
        for effect in fit.effects:
            part = effect.accounts_for
            yield Effect(scorer, effect.name, "regression", part, fit.n, effect.p)


def _of_edits(
    inputs: ProbeInputs,
    scorers: Sequence[ProbeScorer],
    rescored: Rescored,
    remarks: list[str],
) -> Iterator[Effect]:
    """Yield what the difference loses when one generator's images are edited."""
    images = inputs.images
    if images.edits and any(scorer.remote for scorer in scorers):
        remarks.append("images are edited for scorers on this machine alone, as services cost")
    for statistic, plan in images.edits.items():
        if plan.strength is None:
            name = images.generators[plan.side].name
            remarks.append(f"no edit brings {name} to the {statistic} of the other")
    tests = max(1, len(images.edits) * len(scorers))
    for scorer, values in rescored.scorers():
        for statistic, again in values.items() if scorer.spread > 0 else ():
            side = images.edits[statistic].side
            change = mean_of_seeds(scorer.scores[side] - again) / scorer.spread
            part = -change if side else change  # the difference is model - baseline
            finite = part[~np.isnan(part)]
            if len(finite) < MIN_PROMPTS:
                remarks.append(f"{scorer.name} scored too few images without their {statistic}")
            elif np.ptp(finite) > 0:
                p = float(stats.ttest_1samp(finite, 0.0).pvalue)
                interval = mean_interval(part, inputs, tests)
                yield Effect(scorer, statistic, "edit", interval, len(finite), p)


def _statement(
    inputs: ProbeInputs,
    main: Effect,
    notable: Sequence[Effect],
    adjusted: Mapping[str, AdjustedDifference],
    remarks: Sequence[str],
) -> str:
    model, baseline = (generator.name for generator in inputs.images.generators)
    differing = inputs.images.differing
    difference = mean_of_known(main.scorer.differences / main.scorer.spread)
    if differing:
        listed = ", ".join(f"{name} {signed(gap, 3)}" for name, gap in differing.items())
        text = f"The images of {model} and {baseline} differ in {listed}."
    else:
        text = f"The images of {model} and {baseline} differ in no statistic beyond chance."
    if notable:
        by = {
            "edit": f"With the {main.statistic} of both made equal",
            "regression": f"In a regression on the statistics, at equal {main.statistic}",
        }[main.by]
        suspects = " and ".join(dict.fromkeys(effect.statistic for effect in notable))
        favoured = model if main.part.value > 0 else baseline
        text += (
            f" Scores follow {suspects}. {by}, the difference on {main.scorer.name} is "
            f"{difference - main.part.value:+.2f} in place of {difference:+.2f} standard "
            f"deviations of the score: {main.statistic} accounts for {signed(main.part)} over "
            f"{main.n} prompts, in favour of {favoured}."
        )
    else:
        text += (
            f" No statistic accounts for a notable part of the difference; the largest is "
            f"{main.statistic} on {main.scorer.name} by {main.by}, {signed(main.part)} of "
            f"{difference:+.2f} standard deviations over {main.n} prompts."
        )
    fit = adjusted.get(main.scorer.name)
    if fit is not None and main.by == "regression":
        text += f" At equal statistics the regression leaves {signed(fit.adjusted)}."
    return text + "".join(f" Remark: {remark}." for remark in dict.fromkeys(remarks))


def _adjusted_figures(adjusted: Mapping[str, AdjustedDifference]) -> Iterator[ProbeFigure]:
    for name, fit in adjusted.items():
        yield ProbeFigure(f"difference, {name}", fit.mean, fit.n)
        yield ProbeFigure(f"difference at equal statistics, {name}", fit.adjusted, fit.n)
        for effect in fit.effects:
            yield ProbeFigure(f"standardised slope of {effect.name}, {name}", effect.slope, fit.n)
