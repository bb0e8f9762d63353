"""Intervals of differences of two scorers that failed on other items: shifted against anew.

    OMP_NUM_THREADS=1 python tests/performance/simulate_failures.py [--samples N]

With many items, of which few have one score alone, `evaluation.comparison` shifts the resamples of
each scorer to the value on the common items. Here both ways are computed on the same samples:
ratings from 1 to 5, two scorers of which each fails on a share of the items, at random or on the
items that it judges worst. Of each metric are printed how often the interval holds the difference
on common items of the population (the mean over all samples stands for it), and how far the shifted
limits are from the others, as a share of the width; beside it, how far limits move from one random
seed to another.
"""

from __future__ import annotations

import argparse

import numpy as np

from t2v_eval.stats.agreement_metrics import WeightedAgreement
from t2v_eval.stats.metrics import FloatArray

NAMES = ("pearson", "spearman", "tau_b", "acc_strict")
CASES = ((0.001, False), (0.01, False), (0.01, True))
ITEMS, RESAMPLES = 1000, 300


def sample(seed: int, share: float, worst: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ratings, the scores of both scorers, and which of them are missing."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=ITEMS)
    human = np.clip(np.rint(3 + quality + rng.normal(scale=0.6, size=ITEMS)), 1, 5)
    scores = quality + rng.normal(scale=[[1.0], [1.1]], size=(2, ITEMS))
    missing = np.zeros((2, ITEMS), bool)
    for side in (0, 1):
        error = np.abs(scores[side] - quality) if worst else rng.random(ITEMS)
        missing[side, np.argsort(-error)[: round(share * ITEMS)]] = True
    return human, scores, missing


def resampled(
    human: FloatArray, scores: FloatArray, copies: list[np.ndarray]
) -> tuple[FloatArray, FloatArray]:
    """Return the metrics of one scorer on all its items, and on each resample."""
    metrics_of = WeightedAgreement(scores, human, NAMES)
    rows = [list(metrics_of(counts).values()) for counts in (np.ones(ITEMS, np.int32), *copies)]
    return np.array(rows[0]), np.array(rows[1:])


def limits(seed: int, share: float, worst: bool) -> np.ndarray:
    """Return value, low and high of each metric: shifted, anew, and anew with another seed."""
    human, scores, missing = sample(seed, share, worst)
    either = missing.any(axis=0)
    rows = []
    for draw in (0, 1):
        rng = np.random.default_rng((seed, draw))
        copies = [
            np.bincount(rng.integers(0, ITEMS, ITEMS), minlength=ITEMS).astype(np.int32)
            for _ in range(RESAMPLES)
        ]
        common = [resampled(human, np.where(either, np.nan, side), copies) for side in scores]
        value = common[0][0] - common[1][0]
        anew = common[0][1] - common[1][1]
        if not draw:
            alone = [
                resampled(human, np.where(lacks, np.nan, side), copies)
                for side, lacks in zip(scores, missing, strict=True)
            ]
            shifted = alone[0][1] - alone[1][1] + value - (alone[0][0] - alone[1][0])
            rows.append(np.vstack((value, np.quantile(shifted, (0.025, 0.975), axis=0))))
        rows.append(np.vstack((value, np.quantile(anew, (0.025, 0.975), axis=0))))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=400)
    samples = parser.parse_args().samples
    print(f"{samples} samples of {ITEMS} items, {RESAMPLES} resamples")
    for share, worst in CASES:
        where = "the worst judged items" if worst else "random items"
        print(f"each scorer fails on {share:.1%} of the items, {where}")
        # Samples, ways, value and limits, metrics.
        table = np.array([limits(seed, share, worst) for seed in range(samples)])
        truth = table[:, 0, 0].mean(axis=0)
        width = table[:, 1, 2] - table[:, 1, 1]
        for k, name in enumerate(NAMES):
            inside = (table[:, :2, 1, k] <= truth[k]) & (truth[k] <= table[:, :2, 2, k])
            covered = inside.mean(axis=0)
            moved = np.abs(table[:, ::2, 1:, k] - table[:, 1:2, 1:, k]) / width[:, None, None, k]
            by_shift, by_seed = moved.mean(axis=(0, 2))
            print(
                f"  {name:10}  covered {covered[0]:.3f} shifted, {covered[1]:.3f} anew; limits "
                f"move by {by_shift:.2%} of the width, from seed to seed by {by_seed:.2%}"
            )


if __name__ == "__main__":
    main()
