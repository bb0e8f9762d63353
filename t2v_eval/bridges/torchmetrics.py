"""A scorer as a metric of torchmetrics, which sums over batches and processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from t2v_eval.bridges.rewards import rewards
from t2v_eval.scoring.scorer import Scorer


class _Shared:
    """A scorer that copies of a metric share, since its weights need no second copy."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


class ScorerMetric(Metric):
    """The mean score of images and their texts; failures are counted apart.

    Args:
        scorer: with ``on_error="skip"`` an image that fails is counted in `failures`; else it
            raises.
        options: of `torchmetrics.Metric`.

    Attributes:
        failures: the number of images without a score, of all batches of this process; in
            ``with metric.sync_context():``, of all processes.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> metric = ScorerMetric(half)
    >>> metric.update(torch.rand(2, 3, 8, 8), ["a cat", "a dog"])
    >>> metric.compute().item()
    0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor
    failures: Tensor

    def __init__(self, scorer: Scorer, **options: Any) -> None:
        super().__init__(**options)
        self._shared = _Shared(scorer)
        for name, dtype in (
            ("total", torch.float64),
            ("count", torch.int64),
            ("failures", torch.int64),
        ):
            self.add_state(name, torch.tensor(0, dtype=dtype), dist_reduce_fx="sum")

    def update(self, images: Any, texts: list[str]) -> None:
        """Add image b with text b; see `rewards`."""
        values = rewards(self._shared.scorer, images, texts)
        scored = [value for value in values if value is not None]
        self.total += sum(scored)
        self.count += len(scored)
        self.failures += len(values) - len(scored)

    def compute(self) -> Tensor:
        """Return the mean of all scores; NaN where there is none."""
        return (self.total / self.count).float()
