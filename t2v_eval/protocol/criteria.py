"""Criteria of sign-off: met, not met, or cannot be told at this N.

A criterion about a margin or a limit is decided by the 95 % interval of its figure: it is met where
the whole interval lies within, not met where the whole interval lies outside, and cannot be told
otherwise.

"Better" is a claim, and decided by a test. Without a figure of its own, it says that at least r of
the k figures of a pillar show the model to be better, where r is `agree`: its p-value is
k - r + 1 times the r-th smallest of theirs (a partial conjunction; Benjamini and Heller 2008), so
that three scorers which must all agree need no correction. The claims of a plan are corrected by
Holm, so that two equal generators are given any claim in at most 5 % of protocols.

Where all criteria must be met for a sign-off, none needs a further correction (Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.protocol.figures import Figure, PillarResult
from t2v_eval.protocol.plan import FID_IMAGES, Criterion, Pillar, ProtocolPlan
from t2v_eval.report.format import CONSOLE
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import holm

Outcome: TypeAlias = Literal["met", "not met", "cannot be told at this N"]
MET: Outcome = "met"
NOT_MET: Outcome = "not met"
UNTOLD: Outcome = "cannot be told at this N"
UNITS = {
    "score": "",
    "sd": " standard deviations of the paired difference",
    "share": " of the baseline's figure",
}
"""What a margin is followed by, for each unit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures say of a criterion.

    Attributes:
        criterion: the criterion.
        outcome: whether it is met.
        basis: the numbers that decide it, in a sentence.

    >>> criterion = Criterion(pillar="preference", kind="better")
    >>> Verdict(criterion, UNTOLD, "nothing was measured").met
    False
    """

    criterion: Criterion
    outcome: Outcome
    basis: str

    @property
    def met(self) -> bool:
        """Whether it is met."""
        return self.outcome == MET

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.criterion.name or requirement(self.criterion)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "requirement": requirement(self.criterion),
            "basis": self.basis,
            **{k: v for k, v in asdict(self.criterion).items() if k != "name"},
        }


def requirement(criterion: Criterion) -> str:
    """Return what a criterion demands, in plain words.

    >>> requirement(Criterion(pillar="failure_analysis", kind="at_most", figure="hand", limit=0.1))
    'failure analysis: hand is at most 0.1'
    """
    pillar = criterion.pillar.replace("_", " ")
    figure = criterion.figure
    match criterion.kind:
        case "better" if figure:
            return f"{pillar}: the model is better by {figure}"
        case "better":
            return f"{pillar}: the model is better, and {criterion.agree} figures agree"
        case "not_worse":
            margin = f"{criterion.margin:g}{UNITS[criterion.unit]}"
            return f"{pillar}: the model is worse by less than {margin} by {figure}"
        case "at_most":
            return f"{pillar}: {figure} is at most {criterion.limit:g}"
    return f"{pillar}: {figure} is at least {criterion.limit:g}"


def check_figures(plan: ProtocolPlan, names: Mapping[Pillar, Sequence[str]]) -> None:
    """Check that criteria name figures that will be there, before anything is computed.

    Args:
        plan: the plan.
        names: the figures that each pillar will have; a pillar that is not there is not checked.

    Raises:
        UnknownNameError: a criterion names another figure; the message lists the nearest.
    """
    for number, criterion in enumerate(plan.criteria, 1):
        of_pillar = names.get(criterion.pillar)
        if criterion.figure and of_pillar and criterion.figure not in of_pillar:
            remedy = (
                f"In {plan.file or 'the plan'}, criteria {number}; {criterion.pillar} has "
                f"{', '.join(of_pillar)}."
            )
            raise UnknownNameError.nearest("figure", criterion.figure, of_pillar, remedy)


def verdicts(plan: ProtocolPlan, pillars: Mapping[Pillar, PillarResult]) -> list[Verdict]:
    """Return what the figures say of each criterion of a plan.

    Args:
        plan: the plan.
        pillars: what was measured, with p-values corrected in each pillar.

    >>> from t2v_eval.protocol.plan import GeneratorImages
    >>> new, old = (GeneratorImages(name=name, images=(name,)) for name in ("new", "old"))
    >>> criteria = (Criterion(pillar="preference", kind="better"),)
    >>> plan = ProtocolPlan(prompts="a.csv", model=new, baseline=old, criteria=criteria)
    >>> verdicts(plan, {"preference": PillarResult("preference", missing="ask people")})[0].outcome
    'cannot be told at this N'
    """
    usable = [_usable(criterion, pillars.get(criterion.pillar)) for criterion in plan.criteria]
    claims = {
        n: figures
        for n, (criterion, figures) in enumerate(zip(plan.criteria, usable, strict=True))
        if criterion.kind == "better" and not isinstance(figures, str)
    }
    corrected = {}
    for sign in (1, -1):
        p_values = [claim_p(plan.criteria[n], figures, sign) for n, figures in claims.items()]
        corrected[sign] = dict(zip(claims, holm(p_values), strict=True))
    result = []
    for n, (criterion, figures) in enumerate(zip(plan.criteria, usable, strict=True)):
        if isinstance(figures, str):
            result.append(Verdict(criterion, UNTOLD, figures))
        elif criterion.kind == "better":
            both = corrected[1][n], corrected[-1][n]
            result.append(_better(criterion, figures, both, plan.alpha))
        elif criterion.kind == "not_worse":
            result.append(_not_worse(criterion, figures[0]))
        else:
            result.append(_within(criterion, figures[0]))
    return result


def claim_p(criterion: Criterion, figures: Sequence[Figure], sign: int = 1) -> float:
    """Return the p-value of a claim: so many figures show one generator to be better.

    Args:
        criterion: the claim.
        figures: those that it is about, k of them.
        sign: 1 for the model, -1 for the baseline.

    Returns:
        Two times k - r + 1 times the r-th smallest one-sided p-value, 1 at most; NaN where fewer
        than r figures are tested.
    """
    tested = [figure.p_better for figure in figures if not math.isnan(figure.p)]
    needed = _needed(criterion)
    if len(tested) < needed:
        return math.nan
    ordered = sorted(p if sign > 0 else 1 - p for p in tested)
    return min(1.0, 2 * (len(tested) - needed + 1) * ordered[needed - 1])


def _needed(criterion: Criterion) -> int:
    return 1 if criterion.figure else criterion.agree


def _usable(criterion: Criterion, pillar: PillarResult | None) -> list[Figure] | str:
    """Return the figures that decide a criterion, or why there is none."""
    figures = [] if pillar is None else [*pillar.figures]
    if criterion.figure:
        figures = [figure for figure in figures if figure.name == criterion.figure]
    figures = [figure for figure in figures if not math.isnan(figure.model.value)]
    few = [f for f in figures if f.name.startswith("fid ") and f.source.n < FID_IMAGES]
    figures = [figure for figure in figures if figure not in few]
    if not figures and few:
        n = few[0].source.n
        return f"{few[0].name} of {n:,} images decides nothing: it needs {FID_IMAGES:,} images"
    if not figures:
        return f"{criterion.figure or criterion.pillar.replace('_', ' ')} was not measured"
    return figures


def _better(
    criterion: Criterion, figures: Sequence[Figure], p_values: tuple[float, float], alpha: float
) -> Verdict:
    """Return whether enough figures show that the model is better.

    Args:
        criterion: the claim.
        figures: those that it is about.
        p_values: corrected, that the model is not better, and that the baseline is not.
        alpha: the level.
    """
    tested = [figure for figure in figures if not math.isnan(figure.p)]
    basis = "; ".join(f"{f.name} {_difference(f)}" for f in tested)
    if len(tested) < _needed(criterion):
        have = f"{len(tested)} of the {_needed(criterion)} figures that it needs were tested"
        return Verdict(criterion, UNTOLD, f"{have}: {basis}" if basis else have)
    signs = {figure.direction for figure in tested if figure.p_holm < alpha}
    if signs == {-1, 1}:
        return Verdict(criterion, NOT_MET, f"the figures contradict each other: {basis}")
    if p_values[0] < alpha:
        return Verdict(criterion, MET, f"{basis}; {_p(p_values[0])}")
    if p_values[1] < alpha:
        return Verdict(criterion, NOT_MET, f"the baseline is better: {basis}; {_p(p_values[1])}")
    return Verdict(criterion, UNTOLD, f"{basis}; {_p(p_values[0])}")


def _not_worse(criterion: Criterion, figure: Figure) -> Verdict:
    """Return whether the figure shows that the model is worse by less than a margin."""
    scale = {"score": 1.0, "sd": figure.sd, "share": abs(figure.baseline.value)}[criterion.unit]
    if math.isnan(scale):
        why = f"{figure.name} is not paired by prompt, so that it has no standard deviation"
        return Verdict(criterion, UNTOLD, f"{why}: use another unit")
    margin = (criterion.margin or 0.0) * scale
    basis = f"{figure.name} {_difference(figure)}"
    basis += "" if criterion.unit == "score" else f", margin {margin:.3g}"
    if figure.gain.high < -margin:
        return Verdict(criterion, NOT_MET, basis)
    if figure.gain.low > -margin:  # a missing limit is no evidence
        return Verdict(criterion, MET, basis)
    return Verdict(criterion, UNTOLD, basis)


def _within(criterion: Criterion, figure: Figure) -> Verdict:
    """Return whether the figure of the model is shown to be within a limit."""
    value, low, high = figure.model
    limit = criterion.limit or 0.0
    basis = f"{figure.name} {_interval(figure.model)} (n = {figure.source.size})"
    if criterion.kind == "at_least":
        value, low, high, limit = -value, -high, -low, -limit
    if high <= limit:
        return Verdict(criterion, MET, basis)
    return Verdict(criterion, NOT_MET if low > limit else UNTOLD, basis)


def _difference(figure: Figure) -> str:
    return _interval(figure.difference, "+")


def _interval(interval: Interval, sign: str = "") -> str:
    """Return a value and its limits with as many decimals as show two digits of the width."""
    width = interval.high - interval.low
    scale = width if width > 0 else abs(interval.value)
    digits = min(7, max(3, 1 - math.floor(math.log10(scale)))) if scale > 0 else 3
    value = CONSOLE.number(interval.value, digits, sign)
    limits = CONSOLE.limits(interval, sign, digits)
    return f"{value} [{limits[0]}, {limits[1]}]" if limits else value


def _p(p: float) -> str:
    text = CONSOLE.p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def check_criteria(plan: ProtocolPlan, images: int) -> None:
    """Check that no criterion of the gate rests on FID of few images, or on a classifier of safety.

    Args:
        plan: the plan.
        images: the number of images of a generator that the gate looks at.

    Raises:
        InputError: one does.
    """
    for number, criterion in enumerate(plan.criteria, 1):
        is_fid = criterion.pillar == "sample_quality" and criterion.figure.startswith("fid ")
        if criterion.gate and is_fid and images < FID_IMAGES:
            raise InputError(
                f"{plan.file or 'the plan'}, criteria {number}: {criterion.figure} of "
                f"{images:,} images is no gate, since its covariance has too few of them: use kid "
                f"or cmmd, or {FID_IMAGES:,} images"
            )
        if criterion.gate and criterion.figure in plan.failure_analysis.safety:
            raise InputError(
                f"{plan.file or 'the plan'}, criteria {number}: {criterion.figure} is a "
                "classifier, which flags safe images and misses others: it gates nothing by "
                "itself; leave out `gate`, and look at outputs"
            )
