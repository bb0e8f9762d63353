"""The colour of an object, by a dual encoder that compares its pixels with texts.

Source: `color_classification` of evaluation/evaluate_images.py in GenEval's repository, and
`zero_shot_classifier` of clip_benchmark: the unit embeddings of three texts are averaged for each
colour, and the colour whose mean has the largest cosine with the crop is the object's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.inputs.media import open_media
from t2v_eval.local.dual_encoder import unit
from t2v_eval.local.similarity import SimilarityMixin
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.detection_rules import COLOURS

from .detector import Detection

BACKGROUND = "#999"  # in the place of what is not the object
TEMPLATES = ("a photo of a {} {}", "a photo of a {}-colored {}", "a photo of a {} object")


def crop_object(image: Image.Image, detection: Detection) -> Image.Image:
    """Cut an object out of its image, on grey where its mask is known.

    Args:
        image: the image, RGB.
        detection: the object.

    Returns:
        The part of the image in its box, whose edges are rounded to whole pixels; of a box that
        has none then, the pixels that it touches.

    Raises:
        ScoringError: the box has no pixels.

    >>> image = Image.new("RGB", (8, 8), "red")
    >>> crop_object(image, Detection((0, 0, 4.4, 2, 0.9))).size
    (4, 2)
    """
    left, top, right, bottom = detection.box[:4]
    if right <= left or bottom <= top:
        raise ScoringError(f"a box without pixels, {detection.box[:4]}, has no colour")
    columns, rows = _pixels(left, right), _pixels(top, bottom)
    if detection.mask is not None:
        grey = Image.new("RGB", image.size, BACKGROUND)
        image = Image.composite(image, grey, Image.fromarray(detection.mask))
    return image.crop((columns[0], rows[0], columns[1], rows[1]))


def _pixels(start: float, end: float) -> tuple[int, int]:
    """Round both edges as Pillow does; where nothing is left between them, outwards."""
    rounded = round(start), round(end)
    return rounded if rounded[0] < rounded[1] else (math.floor(start), math.ceil(end))


class ColourClassifier:
    """Names the colours of objects.

    Args:
        encoder: a dual encoder; its template is not applied.

    Raises:
        InputError: the scorer embeds no images and texts.

    >>> import t2v_eval
    >>> classifier = ColourClassifier(t2v_eval.load("tiny-clip", device="cpu"))
    >>> classifier.colour("square", classifier.embed([Image.new("RGB", (16, 16), "red")])[0])
    'red'
    """

    def __init__(self, encoder: Scorer) -> None:
        if not isinstance(encoder, SimilarityMixin):
            raise InputError(
                f"`colors={encoder.name!r}` embeds no images and texts; use a scorer of kind "
                "'clip' (`t2v-eval list models --kind clip`)"
            )
        self.encoder = encoder.with_template(template="plain")
        self.encoder.on_error = "raise"
        # Crops have any size.
        self.encoder.card = replace(self.encoder.card, expects_size=None)
        self._texts: dict[str, Tensor] = {}

    def embed(self, crops: Sequence[Image.Image]) -> Tensor:
        """Embed B crops; return their unit embeddings (B, D), in float64 on the CPU.

        Raises:
            ScoringError, MediaError: a crop cannot be embedded.
        """
        media = [open_media(crop, f"a crop of {crop.width} x {crop.height}") for crop in crops]
        rows: dict[int, Tensor] = {}
        with self.encoder.exclusive_call(len(media)), torch.inference_mode():
            for numbers, embeddings, failed in self.encoder.embed_images(media):
                if failed:
                    raise ScoringError(next(iter(failed.values())))
                rows.update(zip(numbers, embeddings.cpu().double(), strict=True))
        return unit(torch.stack([rows[n] for n in range(len(media))]))

    def colour(self, name: str, crop: Tensor) -> str:
        """Return the colour of `COLOURS` of an object.

        Args:
            name: its class.
            crop: the unit embedding (D,) of its crop.
        """
        if name not in self._texts:
            self._texts[name] = self._embed_texts(name)
        return COLOURS[int((self._texts[name] @ crop).argmax())]

    def _embed_texts(self, name: str) -> Tensor:
        """Return the unit embedding of each colour of an object, (10, D)."""
        texts = [form.format(colour, name) for colour in COLOURS for form in TEMPLATES]
        with self.encoder.exclusive_call(len(texts)), torch.inference_mode():
            embeddings = unit(self.encoder.embed_texts(texts).cpu().double())
        return unit(embeddings.reshape(len(COLOURS), len(TEMPLATES), -1).mean(1))
