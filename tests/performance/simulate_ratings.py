"""Simulate the coverage of intervals of ratings from battles, and measure their speed.

    OMP_NUM_THREADS=1 python tests/performance/simulate_ratings.py

Models have normal strengths; with prompts, each prompt favours some models, so that its battles
depend on each other. A fifth to a third of the battles are ties. The targets are the figures of
infinitely many battles: ratings fitted to the expected wins, mean win rates, and ranks. Prints how
often nominal 95 % intervals hold their target, as the mean over models, and how often the
intervals of ranks hold the ranks of all models at once. At the end, the seconds of 100,000 battles
of 20 models with 1,000 resamples.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np

from t2v_eval.evaluation.ratings.fit import fit_ratings
from t2v_eval.evaluation.ratings.rating import rate_battles
from t2v_eval.evaluation.ratings.results import RatingOptions, Ties
from t2v_eval.stats.ratings.battles import Battles, IntArray
from t2v_eval.stats.ratings.bradley_terry import bradley_terry, davidson, to_points
from t2v_eval.stats.ratings.shares import share_interval
from t2v_eval.utils.arrays import FloatArray

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
TIE = 0.4  # the tie parameter v of Davidson's model


class Setting(NamedTuple):
    """A simulated comparison: its models, prompts, battles a prompt, and effect of prompts."""

    models: int
    prompts: int
    battles: int
    effect: float = 0.0
    ties: Ties = "half"

    def __str__(self) -> str:
        battles = (
            f"{self.prompts} prompts x {self.battles}" if self.battles > 1 else f"{self.prompts}"
        )
        return f"{self.models} models, {battles} battles, ties {self.ties}"


SETTINGS = [
    Setting(2, 60, 1),
    Setting(6, 300, 1),
    Setting(20, 2000, 1),
    Setting(6, 15, 20, effect=0.8),
    Setting(6, 60, 10, effect=0.8),
    Setting(20, 100, 30, effect=0.8),
    Setting(6, 400, 1, ties="davidson"),
]


def probabilities(gap: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of a win and of a tie for differences of strengths."""
    half = np.exp(gap / 2)
    total = half + 1 / half + 2 * TIE
    return half / total, 2 * TIE / total


def targets(setting: Setting, strength: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ratings in points and win rates of infinitely many battles, each of shape (K,)."""
    gap = strength[:, None] - strength[None, :]
    spread = setting.effect * np.sqrt(2) * NODES
    shares = WEIGHTS / WEIGHTS.sum()
    won, tied = (p @ shares for p in probabilities(gap[..., None] + spread))
    off = ~np.eye(len(strength), dtype=bool)
    won, tied = won * off, tied * off
    if setting.ties == "davidson":
        ratings = davidson(won, tied)[0]
    else:
        ratings = bradley_terry(won + tied / 2)
    return to_points(ratings), (won + tied / 2).sum(1) / (len(strength) - 1)


def draw(
    setting: Setting, strength: FloatArray, rng: np.random.Generator
) -> tuple[Battles, IntArray]:
    """Return battles of random pairs, and the number of the prompt of each."""
    size, count = setting.models, setting.prompts * setting.battles
    prompt = np.repeat(np.arange(setting.prompts), setting.battles)
    first = rng.integers(0, size, count)
    second = (first + rng.integers(1, size, count)) % size
    taste = strength + setting.effect * rng.normal(size=(setting.prompts, size))
    won, tied = probabilities(taste[prompt, first] - taste[prompt, second])
    u = rng.random(count)
    score = np.where(u < won, 1.0, np.where(u < won + tied, 0.5, 0.0))
    return Battles(tuple(map(str, range(size))), first, second, score), prompt


def coverage(setting: Setting, runs: int, resamples: int) -> tuple[float, ...]:
    """Return the coverage of ratings, win rates, ranks and all ranks at once."""
    rng = np.random.default_rng(0)
    strength = np.random.default_rng(1).normal(0, 0.6, setting.models)
    points, rates = targets(setting, strength)
    ranks = 1 + (points[None, :] > points[:, None]).sum(1)
    held = np.zeros((runs, 3, setting.models), bool)
    for run in range(runs):
        battles, prompt = draw(setting, strength, rng)
        options = RatingOptions(ties=setting.ties, resamples=resamples, seed=run)
        fit = fit_ratings(battles, prompt, options)
        for m in range(setting.models):
            side = battles.first == m, battles.second == m
            values = np.concatenate([battles.score[side[0]], 1 - battles.score[side[1]]])
            rate = share_interval(values, np.concatenate([prompt[side[0]], prompt[side[1]]]))
            held[run, :, m] = [
                fit.ratings[m].low <= points[m] <= fit.ratings[m].high,
                rate.low <= rates[m] <= rate.high,
                fit.ranks[m].low <= ranks[m] <= fit.ranks[m].high,
            ]
    return (*held.mean((0, 2)), held[:, 2].all(1).mean())


def seconds_of_many() -> float:
    """Return the CPU seconds of 100,000 battles of 20 models with 1,000 resamples."""
    setting = Setting(20, 1000, 100, effect=0.5)
    strength = np.random.default_rng(1).normal(0, 0.6, setting.models)
    battles, prompt = draw(setting, strength, np.random.default_rng(0))
    label = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}
    rows = [
        (battles.models[a], battles.models[b], label[score], f"prompt {p}", f"judge {n % 50}")
        for n, (a, b, score, p) in enumerate(
            zip(battles.first, battles.second, battles.score.tolist(), prompt, strict=True)
        )
    ]
    started = time.process_time()
    rate_battles(rows, RatingOptions(resamples=1000))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=200)
    arguments = parser.parse_args()
    print(f"{'':58} rating  win rate  rank  all ranks")
    for setting in SETTINGS:
        shares = coverage(setting, arguments.runs, arguments.resamples)
        print(f"{setting!s:58} " + "    ".join(f"{share:.3f}" for share in shares), flush=True)
    print(f"{seconds_of_many():.1f} s of CPU: 100,000 battles, 20 models, 1,000 resamples")


if __name__ == "__main__":
    main()
