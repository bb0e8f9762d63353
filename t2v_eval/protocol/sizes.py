"""How many prompts, pairs and outputs a protocol needs for an effect, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError, T2VError
from t2v_eval.evaluation.power import Target, plan_runs
from t2v_eval.protocol.plan import Sizes
from t2v_eval.report.reader import PROTOCOL_VERSION
from t2v_eval.report.report import Report
from t2v_eval.stats import power
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.text_file import parse_json, read_text

GENERATORS = 2  # model and baseline
RATERS = 2  # of a review, so that their agreement is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What generating and scoring cost.

    Attributes:
        seconds_per_image: of generation; 0 where all images are there.
        usd_per_gpu_hour: US dollars.
        usd_per_score: US dollars for one score, by scorer; a scorer that runs here is not there.
        probe_scores: how many scores of each scorer behind an API the probes need for one score of
            an image.
        budget: US dollars that may be spent; None for no limit.

    Raises:
        InputError: a number is below 0.

    >>> Prices(seconds_per_image=3.6, usd_per_gpu_hour=2.0).of_prompt(seeds=3)
    0.012
    """

    seconds_per_image: float = 0.0
    usd_per_gpu_hour: float = 0.0
    usd_per_score: Mapping[str, float] = field(default_factory=dict)
    probe_scores: float = 0.0
    budget: float | None = None

    def __post_init__(self) -> None:
        numbers = {
            "seconds_per_image": self.seconds_per_image,
            "usd_per_gpu_hour": self.usd_per_gpu_hour,
            "budget_usd": 0.0 if self.budget is None else self.budget,
        }
        for name, value in numbers.items():
            if not 0 <= value < math.inf:
                raise InputError(f"`{name}={value!r}`: pass a number of 0 or more")

    def of_prompt(self, seeds: int) -> float:
        """Return the US dollars that a prompt costs, with the images of both generators.

        Args:
            seeds: the number of images of each prompt and generator.
        """
        image = self.seconds_per_image / 3600 * self.usd_per_gpu_hour
        scores = sum(self.usd_per_score.values()) * (1 + self.probe_scores)
        return round(GENERATORS * seeds * (image + scores), 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSizes:
    """The numbers of a plan, and what they show.

    Attributes:
        sizes: the numbers.
        alpha: the level of tests.
        deviations: the standard deviation of the paired differences by scorer, of a pilot.
        needed: the number of prompts that the effect needs; None where a billion is too few.
        detectable: the effect that the number of prompts shows, in standard deviations.
        prices: what generating and scoring cost.

    >>> plan_sizes(effect=0.125).needed
    505
    """

    sizes: Sizes
    alpha: float
    deviations: Mapping[str, float]
    needed: int | None
    detectable: float
    prices: Prices

    @property
    def images(self) -> int:
        """The number of images of both generators."""
        return GENERATORS * self.sizes.seeds * self.sizes.prompts

    @property
    def gpu_hours(self) -> float:
        """The hours of generating them."""
        return self.images * self.prices.seconds_per_image / 3600

    @property
    def us_dollars(self) -> float:
        """The cost of generating and scoring them."""
        return self.sizes.prompts * self.prices.of_prompt(self.sizes.seeds)

    @property
    def within_budget(self) -> bool:
        """Whether the budget allows as many prompts as the effect needs."""
        return self.needed is not None and self.sizes.prompts >= self.needed


def plan_sizes(
    effect: float = 0.125,
    *,
    effect_unit: str = "sd",
    chance: float = 0.8,
    alpha: float = 0.05,
    seeds: int = 3,
    review: int = 50,
    deviations: Mapping[str, float] | None = None,
    prices: Prices | None = None,
) -> PlannedSizes:
    """Return the numbers of prompts, pairs and outputs for an effect.

    Prompts are for the paired t test (`stats.power.paired_items`); of several scorers, the one with
    the largest spread decides. Pairs are for the share of wins that the effect means where paired
    differences are normal. Averaging over seeds makes differences less variable than a pilot with
    fewer seeds, which is not counted on.

    Args:
        effect: the difference to show, above 0.
        effect_unit: "sd", standard deviations of the paired difference, or "score".
        chance: the probability that it is found, between alpha and 1.
        alpha: the level of the two-sided test, between 0 and 1.
        seeds: the number of images of each prompt and generator, 1 or more.
        review: the number of outputs of a generator that people look at, 1 or more.
        deviations: the standard deviation of the paired differences by scorer, of a pilot.
        prices: what generating and scoring cost.

    Raises:
        InputError: a number is outside its range, or the unit needs a pilot.

    >>> plan_sizes(0.5).sizes.prompts, plan_sizes(0.5).sizes.pairs
    (34, 54)
    """
    deviations, prices = dict(deviations or {}), prices or Prices()
    for name, count in (("seeds", seeds), ("review", review)):
        if count < 1:
            raise InputError(f"`{name}={count!r}`: pass a whole number of at least 1")
    if not 0 < effect < math.inf:
        raise InputError(f"`effect={effect!r}`: pass the smallest difference that matters, above 0")
    if effect_unit == "score" and not deviations:
        raise InputError(
            "`effect_unit='score'` needs a pilot, which says how much the scores of prompts vary: "
            "pass `pilot=REPORT`, or the effect in standard deviations"
        )
    size = effect / max(deviations.values()) if effect_unit == "score" else effect
    needed = power.paired_items(size, 1.0, chance, alpha)
    prompts = power.MOST_ITEMS if needed is None else needed
    of_prompt = prices.of_prompt(seeds)
    if prices.budget is not None and of_prompt > 0:
        prompts = min(prompts, int(prices.budget / of_prompt))
        if prompts < 2:
            raise InputError(
                f"`budget_usd={prices.budget:g}`: a prompt costs {of_prompt:g} US dollars with "
                f"{seeds} seeds of both generators, and a comparison needs 2 or more"
            )
    pairs = power.share_items(power.share_of_effect(size), chance, alpha)
    return PlannedSizes(
        sizes=Sizes(
            effect=effect,
            effect_unit="score" if effect_unit == "score" else "sd",
            power=chance,
            prompts=prompts,
            seeds=seeds,
            pairs=power.MOST_ITEMS if pairs is None else pairs,
            review=review,
        ),
        alpha=alpha,
        deviations=deviations,
        needed=needed,
        detectable=power.paired_effect(prompts, 1.0, chance, alpha),
        prices=prices,
    )


def read_pilot(folder: str | Path) -> dict[str, float]:
    """Return the standard deviation of the paired differences by scorer, of a report.

    Args:
        folder: the folder of the report of an evaluation of two generators or more, or of a
            protocol; or its report.json.

    Raises:
        InputError: it cannot be read, or compares no generators. Of several pairs of generators,
            the largest standard deviation of a scorer counts.
    """
    path = check_path("pilot", folder)
    file = path / "report.json" if path.is_dir() else path
    content = _content(file)
    if PROTOCOL_VERSION in content:
        figures: Sequence[Any] = content.get("prompt_adherence", {}).get("figures", [])
        deviations = {f["name"]: f["sd"] for f in figures if f.get("sd")}
        if not deviations:
            raise InputError(f"{file}: prompt adherence was not measured, so it is no pilot")
        return deviations
    report = Report.load(path)
    deviations = {}
    for run, label in zip(report.runs, report.labels, strict=True):
        try:
            plans = plan_runs([run], [label], Target())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        of_generators = [plan for plan in plans if plan.of == "generators"]
        if not of_generators:
            raise InputError(f"{path} compares scorers, and a pilot compares two generators")
        spread = max(plan.error * math.sqrt(plan.pilot) for plan in of_generators)
        deviations[label] = max(spread, deviations.get(label, 0.0))
    return deviations


def _content(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(file), file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such folder or report.json") from None
    except (OSError, ValueError, RecursionError, T2VError) as error:
        raise InputError(f"{file} cannot be read as a report: {error}") from error
    return content if isinstance(content, dict) else {}
