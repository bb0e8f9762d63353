"""How often a protocol claims a difference between two equal generators, over seeds of the demo.

    python tests/performance/simulate_protocol.py --seeds 40
    python tests/performance/simulate_protocol.py --seeds 5 --planted

A false claim is a criterion of the kind "better" that is met, or a warning of a probe about the
difference between the generators. At a level of 5 %, 40 seeds have more than 4 false claims of a
kind once in 20 such simulations. With ``--planted``, the generators differ as in the demo, and what
must be found is counted: both criteria, and the probes of the planted gaming.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

from t2v_eval.api import ScorerOptions
from t2v_eval.protocol.demo import write_demo
from t2v_eval.protocol.plan import Probes, SampleQuality, read_plan
from t2v_eval.protocol.run import ProtocolOptions, run_protocol

ABOUT_THE_DIFFERENCE = ("covariates", "duplicates")
PLANTED = ("inflation", "covariates")


def outcomes(seed: int, null: bool) -> list[str]:
    """Run the demo of a seed; return the criteria that are met and the probes that warn."""
    names = ABOUT_THE_DIFFERENCE if null else PLANTED
    with tempfile.TemporaryDirectory() as folder:
        plan = read_plan(write_demo(folder, null=null, seed=seed))
        # No criterion of the demo is about sample quality, whose features take long.
        plan = replace(plan, probes=Probes(names=names), sample_quality=SampleQuality())
        options = ScorerOptions(store=Path(folder) / "scores.sqlite", device="cpu")
        report = run_protocol(plan, ProtocolOptions(scorers=options))
    met = [verdict.name for verdict in report.verdicts if verdict.met]
    return met + [probe.name for probe in report.probes if probe.warning]


def main() -> None:
    """Simulate, and print a line for each seed and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--planted", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    with_any = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        claims = outcomes(seed, null=not arguments.planted)
        counts.update(claims)
        with_any += bool(claims)
        print(f"seed {seed}: {', '.join(claims) or 'nothing'}", flush=True)
    for name, count in counts.items():
        print(f"{name}: {count} of {arguments.seeds}")
    print(f"any: {with_any} of {arguments.seeds}")


if __name__ == "__main__":
    main()
