"""Scorers learnt from choices between images: differences of logits are log-odds of preference."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.scoring.scorer import Scorer


class PreferenceScorer(Scorer):
    """A scorer whose softmax over the candidates is the probability of being preferred.

    Bradley-Terry's model: differences of logits are log-odds.

    Attributes:
        logit_scale: the factor that makes a logit of a score.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> from t2v_eval.backends.preference.pickscore import PickScore
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent  # any CLIP will do
    >>> scorer = PickScore(checkpoint=str(folder), device="cpu")
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "red", "blue")]
    >>> p = scorer.probabilities(images, "a red square")
    >>> bool(p[0] == p[1]), p.shape
    (True, torch.Size([3]))
    """

    logit_scale: float = 1.0  # score times this is a logit

    def probabilities(
        self, images: MediaLike | Iterable[MediaLike], text: str, **template: str | None
    ) -> Tensor:
        """Return the probability of each candidate image to be the preferred one.

        Args:
            images: the K candidates.
            text: the prompt of all of them.
            **template: as in a call.

        Returns:
            (K,) float32 tensor on the CPU that sums to 1; with ``on_error="skip"``, NaN
            for an image that failed, and the others as if it were not there.

        Raises:
            InputError: `text` is not one text.
        """
        if not isinstance(text, str):
            raise InputError("probabilities takes one text: the prompt of all candidate images")
        bound = self.with_call_options(template)
        logits = bound.forward(images, [text])[:, 0] * self.logit_scale
        shares = logits.masked_fill(logits.isnan(), -torch.inf).softmax(0)
        return shares.masked_fill(logits.isnan(), torch.nan)
