"""Scores with gradients to the pixels, for fine-tuning a generator on a reward."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.media import check_texts
from t2v_eval.scoring.scorer import Scorer


class Differentiable(Scorer):
    """A scorer of pixels in a tensor; a scorer that has gradients overrides `score_pixels`.

    >>> from t2v_eval import load
    >>> scorer = load("tiny-clip", device="cpu")
    >>> pixels = torch.full((1, 3, 48, 48), 0.5, requires_grad=True)
    >>> scorer.score_tensor(pixels, "a red circle").sum().backward()
    >>> pixels.grad.shape
    torch.Size([1, 3, 48, 48])
    """

    def score_tensor(
        self, pixels: Tensor, texts: str | Iterable[str] | None = None, **template: str | None
    ) -> Tensor:
        """Score image b with text b; gradients flow to the pixels. Nothing is stored.

        Resizing does not round to 256 levels, as it does for files in `forward`, so a score
        differs slightly from that of the same image there.

        Args:
            pixels: (B, 3, H, W) floating-point tensor, RGB in [0, 1], on any device.
            texts: B texts, or one for all; may be left out where the scorer does not use them.
            template: `question_template`, `answer_template` or `template` for this call.

        Returns:
            (B,) tensor on the device of the pixels: float64 if they are, else float32.

        Raises:
            InputError: pixels or texts that cannot be used.
            UnsupportedError: this scorer has no gradients.
        """
        bound = self.with_call_options(template)
        bound.store = None
        if self.uses_references:
            raise UnsupportedError(
                f"{self.name!r} needs references, which score_tensor does not take; scorers of "
                "kind 'clip' without them have gradients"
            )
        check_pixels(pixels)
        captions = check_texts(bound.texts_or_empty(texts))
        captions = captions * len(pixels) if len(captions) == 1 else captions
        if len(captions) != len(pixels):
            raise InputError(
                f"score_tensor got {len(pixels)} images and {len(captions)} texts; pass one text "
                "for each image, or one for all"
            )
        bound.check_template()
        precision = torch.promote_types(pixels.dtype, torch.float32)
        with bound.exclusive_call(len(set(captions))):
            bound.warn_of_size("pixels", (pixels.shape[3], pixels.shape[2]))
            scores = bound.score_pixels(pixels.to(precision), captions)
        return scores.to(pixels.device, precision)

    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Score checked (B, 3, H, W) pixels with B texts; return (B,) scores."""
        raise no_gradients(self.name)


def no_gradients(name: str) -> UnsupportedError:
    """Return the error of a scorer that has no gradients.

    >>> str(no_gradients("mine"))[:24]
    "'mine' has no gradients;"
    """
    return UnsupportedError(
        f"{name!r} has no gradients; scorers whose card says `differentiable = true` have them"
    )


def check_pixels(pixels: Tensor) -> None:
    """Check that `pixels` is a batch of images.

    Raises:
        InputError: a wrong type, shape or range; the message says what to do.

    >>> check_pixels(torch.zeros(1, 3, 4, 4))
    """
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        what = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise InputError(
            f"score_tensor takes pixels as a floating-point tensor in [0, 1], not {what}; call the "
            "scorer itself with images of other types"
        )
    if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise InputError(
            f"pixels has shape {tuple(pixels.shape)} instead of (B, 3, H, W), none of them 0; "
            "add the batch dimension with pixels[None], or permute channels to the second dimension"
        )
    if not pixels.isfinite().all():
        raise InputError("pixels has values that are NaN or infinite")
    low, high = (bound.item() for bound in pixels.detach().aminmax())
    if low < 0 or high > 1:
        raise InputError(
            f"pixels has values from {low:g} to {high:g}, not in [0, 1]: undo any normalisation, "
            "then pixels.clamp(0, 1)"
        )
