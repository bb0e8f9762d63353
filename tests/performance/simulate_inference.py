"""Simulate the power and size of the paired test, and the coverage of the intervals.

    OMP_NUM_THREADS=1 python tests/performance/simulate_inference.py [power] [coverage] [--runs N]

Without a name it does both; `--runs 100` takes some minutes on one core. Resamples are computed at
once, which `check` compares with the statistics that reports call, and limits are those of reports.
docs/statistics.md has the numbers. Samples are drawn from these populations:

- normal: people see h = z, scorers z + 0.8 e and z + 1.2 e with standard normal z and e;
- ratings: means of three ratings from 1 to 5 of z; the first scorer is saturated,
  sigmoid(4 (z + 0.8 e)), the second is z + 1.2 e;
- clustered: the same in groups of four rows, in which every variable has the correlation 0.4.

The accuracy is that of labels (z > 0) and answers (scores above a cut-off).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t2v_eval.stats import metrics
from t2v_eval.stats.bootstrap import (
    BootstrapSamples,
    IntArray,
    Statistic,
    agreement_statistic,
)
from t2v_eval.stats.intervals import Estimate, share_of
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.paired import paired_agreement_statistic
from t2v_eval.stats.permutation import paired_permutation

NAMES = ("tau_b", "spearman", "pearson")
GROUP = 4
WITHIN = 0.4
"""The correlation of two rows of a group."""
SHARES = (0.2, 0.1)
"""How often the answers of the two scorers are wrong."""


class Sample(NamedTuple):
    """Scores of two scorers and ratings, each of shape (units, rows of a unit)."""

    first: FloatArray
    second: FloatArray
    human: FloatArray
    right: FloatArray
    """Whether the first scorer's answer is right."""
    other_right: FloatArray


def draw(population: str, n: int, rng: np.random.Generator, rows: int = 1) -> Sample:
    """Draw n units of a population."""

    def noise() -> FloatArray:
        shared = rng.normal(size=(n, 1)) if rows > 1 else np.zeros((n, 1))
        within = WITHIN if rows > 1 else 0.0
        own = rng.normal(size=(n, rows))
        mixed: FloatArray = np.sqrt(within) * shared + np.sqrt(1 - within) * own
        return mixed

    quality = noise()
    first, second, human = quality + 0.8 * noise(), quality + 1.2 * noise(), quality
    if population == "ratings":
        first = 1 / (1 + np.exp(-4 * first))
        raters = [3.7 + quality + 0.7 * rng.normal(size=(n, rows)) for _ in range(3)]
        human = np.mean([np.clip(np.round(rating), 1, 5) for rating in raters], axis=0)
    right, other = (
        (noise() > limit).astype(float) for limit in (-0.8416212335729143, -1.2815515655446004)
    )
    return Sample(first, second, human, right, other)


def saturated(n: int, rng: np.random.Generator, offset: float, *, equal: bool) -> Sample:
    """Draw a normal scorer and a better one, or an equally good one, seen through a sigmoid.

    Args:
        n: the number of rows.
        rng: the source of noise.
        offset: 0 for sigmoid(20 x), whose values are near 0 and near 1; else the sigmoid is that of
            20 (x / 4 + offset), which is near 1 for most rows.
        equal: whether both scorers have the same noise.
    """
    human = rng.normal(size=(n, 1))
    first = human + rng.normal(size=(n, 1))
    better = human + (1.0 if equal else 0.7) * rng.normal(size=(n, 1))
    seen = better / 4 + offset if offset else better
    nothing = np.zeros((n, 1))
    return Sample(first, 1 / (1 + np.exp(-20 * seen)), human, nothing, nothing)


def statistic_of(scores: FloatArray, human: FloatArray) -> Statistic:
    """Return what a benchmark with these rows computes."""
    return agreement_statistic(scores, human, NAMES, pooled=True)


def samples_of(scores: FloatArray, human: FloatArray, copies: FloatArray) -> BootstrapSamples:
    """Return the samples of a bootstrap whose resamples are given, all computed at once.

    Args:
        scores: shape (units, rows of a unit).
        human: ratings, in the same shape.
        copies: shape (resamples, units), how many times each resample holds a unit.
    """
    n, rows = scores.shape
    weights = np.repeat(np.vstack([np.ones(n), copies]), rows, axis=1).astype(np.float32)
    s, h = scores.ravel(), human.ravel()
    signs = [np.sign(np.subtract.outer(x, x)).astype(np.float32) for x in (s, h)]

    def over_pairs(matrix: FloatArray) -> FloatArray:
        total: FloatArray = ((weights @ matrix) * weights).sum(axis=1, dtype=np.float64)
        return total

    def ranks(values: FloatArray) -> FloatArray:
        below = np.less.outer(values, values) + np.equal.outer(values, values) / 2
        mean: FloatArray = weights @ below.astype(np.float32)
        return mean

    def correlation(x: FloatArray, y: FloatArray) -> FloatArray:
        total = weights.sum(axis=1, keepdims=True, dtype=np.float64)
        x = x - (weights * x).sum(axis=1, keepdims=True) / total
        y = y - (weights * y).sum(axis=1, keepdims=True) / total
        products = [(weights * a * b).sum(axis=1) for a, b in ((x, y), (x, x), (y, y))]
        r: FloatArray = products[0] / np.sqrt(products[1] * products[2])
        return r

    untied = [over_pairs(sign * sign) for sign in signs]
    values = {
        "tau_b": over_pairs(signs[0] * signs[1]) / np.sqrt(untied[0] * untied[1]),
        "spearman": correlation(ranks(s), ranks(h)),
        "pearson": correlation(s[None], h[None]),
    }
    kinds = {"tau_b": "pairs" if rows == 1 else "percentile"}
    estimates = {name: Estimate(v[0], kinds.get(name, "correlation")) for name, v in values.items()}
    return _samples(n, values, estimates)


def shares_of(right: FloatArray, copies: FloatArray) -> BootstrapSamples:
    """Return the samples of an accuracy, all computed at once; arguments as in `samples_of`."""
    n, rows = right.shape
    weights = np.vstack([np.ones(n), copies])
    estimate = share_of(right.ravel()) if rows == 1 else Estimate(right.mean(), "share")
    return _samples(n, {"accuracy": weights @ right.mean(axis=1) / n}, {"accuracy": estimate})


def coverage(population: str, n: int, rows: int, runs: int, resamples: int = 500) -> str:
    """Return a row of the table: how often intervals hold the value of the population."""
    rng = np.random.default_rng(n)
    truth = true_values(population, rows)
    inside: Counter[str] = Counter()
    for run in range(runs):
        sample = draw(population, n, rng, rows)
        copies = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
        sides = [sample.first, sample.second]
        if n * rows <= 400:
            agreement = [samples_of(side, sample.human, copies) for side in sides]
        else:
            agreement = [
                BootstrapSamples.compute(statistic_of(side, sample.human), n, resamples, run)
                for side in sides
            ]
        shares = [shares_of(right, copies) for right in (sample.right, sample.other_right)]
        for first, second in (agreement, shares):
            for name, interval in first.intervals().items():
                inside[name] += interval.low <= truth[name] <= interval.high
            for name, interval in first.difference(second).intervals().items():
                key = f"{name} difference"
                inside[key] += interval.low <= truth[key] <= interval.high
    shown = [f"{inside[name] / runs:.3f}" for name in truth]
    clustered = f"{n} groups of {rows}" if rows > 1 else f"{n} rows"
    return f"| {population} | {clustered} | " + " | ".join(shown) + " |"


def true_values(population: str, rows: int) -> dict[str, float]:
    """Return the values of the population, and of differences, from large samples."""
    rng = np.random.default_rng(1)
    compute = {
        "tau_b": metrics.kendall_tau_b,
        "spearman": metrics.spearman,
        "pearson": metrics.pearson,
    }
    draws: list[Mapping[str, tuple[float, float]]] = []
    for _ in range(12):
        sample = draw(population, 20_000 // rows, rng, rows)
        h = sample.human.ravel()
        draws.append(
            {
                name: (of(sample.first.ravel(), h), of(sample.second.ravel(), h))
                for name, of in compute.items()
            }
        )
    means = {name: np.mean([values[name] for values in draws], axis=0) for name in NAMES}
    means["accuracy"] = 1 - np.array(SHARES)
    truth = {name: float(first) for name, (first, _) in means.items()}
    return truth | {f"{name} difference": float(a - b) for name, (a, b) in means.items()}


def power(runs: int, n: int = 200) -> None:
    """Print how often the paired test of tau-b is significant, by ranks and by scores."""
    for equal, offset in itertools.product((False, True), (0.0, 0.75)):
        rng = np.random.default_rng(0)
        significant, by_scores, contradicted = 0, 0, 0
        for run in range(runs):
            sample = saturated(n, rng, offset, equal=equal)
            first, second, human = (side.ravel() for side in sample[:3])
            paired = paired_agreement_statistic(first, second, human, ["tau_b"])
            p = paired_permutation(paired, n, seed=run)["tau_b"]
            p_of_scores = paired_permutation(_of_scores(first, second, human), n, seed=run)["tau_b"]
            copies = rng.multinomial(n, np.full(n, 1 / n), size=500)
            sides = [samples_of(side, sample.human, copies) for side in sample[:2]]
            interval = sides[0].difference(sides[1]).intervals()["tau_b"]
            excludes = interval.low > 0 or interval.high < 0
            significant += p < 0.05
            by_scores += p_of_scores < 0.05
            contradicted += excludes and p >= 0.05
        what = "size, equally good scorers" if equal else "power, a better scorer"
        print(
            f"{what}, offset {offset}: {significant / runs:.3f} by ranks, "
            f"{by_scores / runs:.3f} by standardised scores; the interval excludes 0 and the test "
            f"does not reject: {contradicted / runs:.3f}",
            flush=True,
        )


def _of_scores(first: FloatArray, second: FloatArray, human: FloatArray) -> Statistic:
    """Return the statistic of a test that exchanges standardised scores."""
    sides = [(side - side.mean()) / side.std() for side in (first, second)]
    return agreement_statistic(np.concatenate(sides), np.tile(human, 2), ["tau_b"])


def _samples(
    n: int, values: Mapping[str, FloatArray], estimates: Mapping[str, Estimate]
) -> BootstrapSamples:
    value = {name: float(v[0]) for name, v in values.items()}
    resampled = {name: v[1:] for name, v in values.items()}
    return BootstrapSamples(n, len(next(iter(resampled.values()))), 0, value, resampled, estimates)


def check() -> None:
    """Check that what is computed at once is what reports compute."""
    rng = np.random.default_rng(5)
    for rows in (1, GROUP):
        sample = draw("ratings", 20, rng, rows)
        indices: list[IntArray] = [rng.integers(0, 20, 20) for _ in range(5)]
        copies = np.array([np.bincount(index, minlength=20) for index in indices])
        at_once = samples_of(sample.first, sample.human, copies)
        statistic = statistic_of(sample.first, sample.human)
        for k, index in enumerate(indices):
            for name, value in statistic(index).items():
                assert abs(value - at_once.resampled[name][k]) < 1e-5, name
        kinds = {name: value.kind for name, value in at_once.estimates.items()}
        assert kinds == {name: v.kind for name, v in statistic(np.arange(20)).items()
                         if isinstance(v, Estimate)}  # fmt: skip


def coverages(
    runs: int, populations: Sequence[str], sizes: Sequence[int], rows_of_units: Sequence[int]
) -> None:
    """Print the table of coverage; large samples have fewer runs."""
    columns = [*NAMES, "accuracy"]
    columns += [f"{name} difference" for name in columns]
    print(f"| population | sample | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for population in populations:
        for rows in rows_of_units:
            for n in sizes:
                fewer = 1 if n * rows < 400 else 2 if n * rows == 400 else 10
                print(coverage(population, n, rows, runs // fewer), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", help="power, coverage; by default both")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--populations", nargs="+", default=["normal", "ratings"])
    parser.add_argument("--units", nargs="+", type=int, default=[30, 100, 400])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, GROUP], help="rows of a unit")
    args = parser.parse_args()
    check()
    start = time.process_time()
    if "power" in args.what or not args.what:
        power(args.runs)
    if "coverage" in args.what or not args.what:
        coverages(args.runs, args.populations, args.units, args.rows)
    print(f"{time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()
