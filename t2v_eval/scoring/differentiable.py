"""Scores through which a gradient flows to the pixels, as fine-tuning on a reward needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.media import check_texts
from t2v_eval.scoring.scorer import Scorer


class Differentiable(Scorer):
    """A scorer that can score pixels as they are in a tensor, if it writes `score_pixels`."""

    def score_tensor(
        self, pixels: Tensor, texts: str | Iterable[str] | None = None, **template: str | None
    ) -> Tensor:
        """Score picture b with text b; gradients flow to the pixels. Nothing is stored.

        Pictures are resized without the rounding to 256 levels that files and `forward` have, so
        that a score differs a little from that of the same picture there.

        Args:
            pixels: (B, 3, H, W), RGB, floating, in [0, 1], on any device.
            texts: B texts, or one for all; may be left out where the scorer does not use them.
            template: `question_template`, `answer_template` or `template` for this call.

        Returns:
            (B,) tensor on the device of the pixels: float64 if they are, else float32.

        Raises:
            InputError: pixels or texts that cannot be used.
            UnsupportedError: this scorer has no gradients.
        """
        bound = self._with_call_templates(template)
        bound.store = None
        if self.uses_references:
            raise UnsupportedError(
                f"{self.name!r} needs references, which score_tensor does not take; models of "
                "kind 'clip' without them have gradients"
            )
        check_pixels(pixels)
        captions = check_texts(bound._texts_or_empty(texts))
        captions = captions * len(pixels) if len(captions) == 1 else captions
        if len(captions) != len(pixels):
            raise InputError(
                f"score_tensor got {len(pixels)} pictures and {len(captions)} texts; pass one text "
                "for each picture, or one for all"
            )
        bound.check_template()
        precision = torch.promote_types(pixels.dtype, torch.float32)
        with self._lock:
            bound._truncated.clear()
            bound._warn_of_size("pixels", (pixels.shape[3], pixels.shape[2]))
            scores = bound.score_pixels(pixels.to(precision), captions)
            bound._warn_truncated(len(set(captions)))
        return scores.to(pixels.device, precision)

    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """What `score_tensor` does with checked, aligned pixels and texts: scores (B,)."""
        raise no_gradients(self.name)


def no_gradients(name: str) -> UnsupportedError:
    """What a scorer raises that has none."""
    return UnsupportedError(
        f"{name!r} has no gradients; models whose card says `differentiable = true` have them"
    )


def check_pixels(pixels: Tensor) -> None:
    """Raise `InputError`, which says what to do, for what is no batch of pictures."""
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        what = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise InputError(
            f"score_tensor takes pixels as a floating-point tensor in [0, 1], not {what}; call the "
            "scorer itself with pictures of other types"
        )
    if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise InputError(
            f"pixels is of shape {tuple(pixels.shape)} instead of (B, 3, H, W), none of them 0; "
            "add the batch with pixels[None], or permute channels to the second place"
        )
    if not pixels.isfinite().all():
        raise InputError("pixels has values that are NaN or infinite")
    low, high = (bound.item() for bound in pixels.detach().aminmax())
    if low < 0 or high > 1:
        raise InputError(
            f"pixels has values from {low:g} to {high:g}, not in [0, 1]: undo any normalisation, "
            "then pixels.clamp(0, 1)"
        )
