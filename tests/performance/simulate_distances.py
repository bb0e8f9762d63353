"""How often the 95 % intervals of distances contain what they should, in simulation.

    OMP_NUM_THREADS=1 python tests/performance/simulate_distances.py [--samples 300]

Each sample draws both sets anew from two normal distributions of d features: equal ones, or apart
in mean and scale. "own mean" is the mean of the metric over all samples of this size, "truth" its
value at infinitely many images; they differ by the bias of the metric. For equal distributions many
metrics are at their minimum, where the distribution of a sample's value is no normal one.
"""

from __future__ import annotations

import argparse

import numpy as np

from t2v_eval.evaluation.distances.distance import distance
from t2v_eval.evaluation.distances.feature_set import FeatureSet

METRICS = ("fid", "fid-infinity", "kid", "kid-subsets", "cmmd", "mind", "mifid", "vendi")
OF_LOGITS = ("inception-score", "is-infinity")
OPTIONS = {"mind.projections": 100, "kid-subsets.subsets": 20, "kid-subsets.size": 100}


def simulate(n: int, d: int, apart: bool, samples: int, resamples: int) -> None:
    """Print a row for each metric."""
    shift, scale = (0.5, 1.2) if apart else (0.0, 1.0)
    # A mean, as features of networks have one: cosines are then not those of random directions.
    mean = np.ones(d)
    truth = {"fid": d * (shift**2 + (scale - 1) ** 2)}
    truth["fid-infinity"] = truth["fid"]
    intervals: dict[str, list[tuple[float, float, float]]] = {}
    for k in range(samples):
        rng = np.random.default_rng([k, n, d, apart])
        reference = rng.normal(size=(n, d)) + mean
        images = scale * rng.normal(size=(n, d)) + mean + shift
        sets = FeatureSet("a", reference), FeatureSet("b", images, 3 * rng.normal(size=(n, 10)))
        result = distance(
            *sets, [*METRICS, *OF_LOGITS], metric_options=OPTIONS, resamples=resamples
        )
        for name, value in result.pairs[0].metrics.items():
            intervals.setdefault(name, []).append(tuple(value))
    for name, rows in intervals.items():
        value, low, high = np.array(rows).T
        of_mean = ((low <= value.mean()) & (value.mean() <= high)).mean()
        of_truth = "-"
        if name in truth:
            of_truth = f"{((low <= truth[name]) & (truth[name] <= high)).mean():.3f}"
        width = (high - low).mean() / (2 * 1.96 * value.std())
        print(
            f"{n:6} {d:4} {'apart' if apart else 'equal':6} {name:16} {value.mean():9.4f} "
            f"{of_mean:8.3f} {of_truth:>6} {width:6.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=300)
    arguments = parser.parse_args()
    print("     n    d sets   metric                mean own mean  truth  width / spread")
    for n, d in ((300, 8), (1000, 64)):
        for apart in (True, False):
            simulate(n, d, apart, arguments.samples, arguments.resamples)


if __name__ == "__main__":
    main()
