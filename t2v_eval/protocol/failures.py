"""Failure analysis: what people flag in outputs that were chosen at random."""

from __future__ import annotations

from t2v_eval.errors import UnsupportedError
from t2v_eval.protocol.figures import PillarResult
from t2v_eval.protocol.plan import ProtocolPlan

MISSING = (
    "look at outputs: `t2v-eval review --images FOLDER --out review/` writes a page of outputs "
    "chosen at random, and the files that it saves are named as `review` under [failure_analysis] "
    "in the plan"
)


def measure_failures(plan: ProtocolPlan) -> PillarResult:
    """Return that nobody looked at outputs.

    Args:
        plan: the plan.

    Raises:
        UnsupportedError: the plan names reviews.
    """
    if plan.failure_analysis.review or plan.failure_analysis.safety:
        raise UnsupportedError(f"{plan.file}: reviews are not read yet: empty [failure_analysis]")
    return PillarResult("failure_analysis", missing=MISSING)
