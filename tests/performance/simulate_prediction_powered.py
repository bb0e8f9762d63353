"""Simulate the coverage of prediction-powered intervals.

    python tests/performance/simulate_prediction_powered.py

Prompts differ in difficulty, which ratings and scores of both generators share. Ratings are whole
numbers from 1 to 5; the scorer is good, poor, saturated or useless. The target is the mean
difference of ratings in the population, here over 200,000 prompts. Prints how often the nominal 95
% interval of the difference, and of the mean of one generator, holds its target, and the mean width
of the former relative to that of the ratings alone; there are 400 prompts in all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from t2v_eval.stats.prediction_powered import (
    PredictionPowered,
    prediction_powered_difference,
    prediction_powered_mean,
)
from t2v_eval.utils.arrays import FloatArray

PROMPTS = 400
SCORERS: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {
    "good": lambda quality, rng: quality + rng.normal(0, 0.5, quality.shape),
    "poor": lambda quality, rng: quality + rng.normal(0, 3.0, quality.shape),
    "saturated": lambda quality, rng: 1 / (1 + np.exp(-4 * quality - 4)),
    "useless": lambda quality, rng: rng.normal(0, 1, quality.shape),
}


def draw(
    n: int, scorer: str, rng: np.random.Generator, group_size: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Return ratings and scores of n prompts with two generators, each of shape (n, 2)."""
    topics = np.repeat(rng.normal(0, 0.7, (-(-n // group_size), 2)), group_size, axis=0)[:n]
    quality = rng.normal(0, 1, (n, 1)) + rng.normal([0.3, 0.0], 0.7, (n, 2))
    quality = quality + (topics if group_size > 1 else 0)
    ratings = np.clip(np.round(3 + quality + rng.normal(0, 0.5, (n, 2))), 1, 5)
    return ratings, SCORERS[scorer](quality, rng)


def coverage(
    scorer: str, rated: int, group_size: int, runs: int, seed: int
) -> tuple[float, float, float]:
    """Return the coverage of the difference and of a mean, and the mean relative width."""
    rng = np.random.default_rng(seed)
    population, _ = draw(200_000, scorer, rng, group_size)
    difference = float((population[:, 0] - population[:, 1]).mean())
    mean = float(population[:, 0].mean())
    groups = None if group_size == 1 else [k // group_size for k in range(PROMPTS)]
    held, held_mean, widths = 0, 0, []
    for _ in range(runs):
        ratings, scores = draw(PROMPTS, scorer, rng, group_size)
        # Whole groups are rated, as prompts of one topic are not independent.
        ratings[rated:] = np.nan
        estimate = prediction_powered_difference(ratings, scores, groups=groups)
        held += _holds(estimate, difference)
        of_first = prediction_powered_mean(ratings[:, 0], scores[:, 0], groups=groups)
        held_mean += _holds(of_first, mean)
        alone = estimate.ratings_alone
        widths.append((estimate.interval.high - estimate.interval.low) / (alone.high - alone.low))
    return held / runs, held_mean / runs, float(np.mean(widths))


def _holds(estimate: PredictionPowered, target: float) -> bool:
    return bool(estimate.interval.low <= target <= estimate.interval.high)


def main() -> None:
    """Print a table of coverages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("scorer     rated  prompts a group  difference  mean   width")
    for scorer in SCORERS:
        for rated in (30, 100):
            for group_size in (1, 2):
                found = coverage(scorer, rated, group_size, options.runs, options.seed)
                print(
                    f"{scorer:10} {rated:5}  {group_size:15}  {found[0]:10.3f}  {found[1]:.3f}  "
                    f"{found[2]:.2f}"
                )


if __name__ == "__main__":
    main()
