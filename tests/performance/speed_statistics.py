"""What exact pair accuracy and its resamples cost, on random data of the sizes that occur.

    OMP_NUM_THREADS=1 python tests/performance/speed_statistics.py

The scores are noisy judgements; those of GenAI-Bench are means of three raters from 1 to 5.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np

from t2v_eval.stats import metrics
from t2v_eval.stats.bootstrap import agreement_statistic, bootstrap_interval


def timed(what: str, work: Callable[[], object]) -> None:
    """Print how long `work` took, and the most memory that this process has had so far."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{seconds:6.2f} s, peak {peak:4.0f} MB: {what}")


def main() -> None:
    rng = np.random.default_rng(0)
    timed("nothing, to import scipy", lambda: metrics.kendall_tau_b([1, 2, 3], [1, 3, 2]))
    for n in (9_600, 50_000):
        likert = rng.integers(1, 6, n).astype(float)
        noisy = likert + rng.normal(scale=2, size=n)
        kinds = {
            "five ratings": (noisy, likert),
            "five ratings, scores of two digits": (noisy.round(1), likert),
            "five ratings, scores of pure chance": (rng.normal(size=n), likert),
            "ratings without ties": (noisy, likert + rng.normal(size=n)),
        }
        for kind, (s, h) in kinds.items():
            timed(
                f"exact acc23 of {n:,} items, {kind}",
                lambda s=s, h=h: metrics.pairwise_accuracy(s, h),
            )
    human = rng.integers(3, 16, (1600, 6)) / 3
    scores = human + rng.normal(scale=1.5, size=human.shape)
    statistic = agreement_statistic(scores, human, ["tau_b", "acc23"], pooled=True)
    timed(
        "1,000 resamples of GenAI-Bench-1600 (9,600 items), tau-b and acc23",
        lambda: bootstrap_interval(statistic, 1600),
    )


if __name__ == "__main__":
    main()
