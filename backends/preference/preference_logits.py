"""Scorers learnt from choices between images: differences of their logits are log-odds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from t2v_eval.errors import InputError, TemplateError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.scoring.scorer import Scorer


class PreferenceScorer(Scorer):
    """A scorer whose logits, over the candidates, become the probability to be preferred."""

    logit_scale: float = 1.0  # times a score is a logit

    def probabilities(
        self, images: MediaLike | Iterable[MediaLike], text: str, **template: str | None
    ) -> Tensor:
        """How likely each of the candidates is the one that people prefer.

        Returns:
            (K,) float32 tensor on the CPU, the sum of which is 1; with ``on_error="skip"``, NaN
            for an image that failed, and the others as if it were not there.
        """
        if not isinstance(text, str):
            raise InputError("probabilities takes one text, of which the images are candidates")
        logits = self.forward(images, [text], **template)[:, 0] * self.logit_scale
        shares = logits.masked_fill(logits.isnan(), -torch.inf).softmax(0)
        return shares.masked_fill(logits.isnan(), torch.nan)


class PreferencePairScorer(PreferenceScorer, PairScorer[Tensor]):
    """One that reads the filled question with the image; there is no answer."""

    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads the text and gives no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass a question_template alone"
            )
