"""What a scorer crops, pads or stretches, as seen from what it prepares of two drawn images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from t2v_eval.inputs.media import open_media

WIDE, SQUARE = (448, 64), (128, 128)
END = 60  # pixels at the left and the right end of a wide image that another colour covers
OBSERVABLE = ("crop", "stretch", "pad", "aspect", "tiles")


def observed_geometry(scorer: Any) -> str:
    """Return the word of `cards.GEOMETRIES` for what becomes of a wide image."""
    plain = Image.new("RGB", WIDE, "white")
    ends = plain.copy()
    for x in (0, WIDE[0] - END):
        ends.paste("red", (x, 0, x + END, WIDE[1]))
    of_plain, of_ends, of_square = (
        prepared(scorer, image) for image in (plain, ends, Image.new("RGB", SQUARE, "white"))
    )
    if torch.equal(of_plain, of_ends):
        return "crop"
    pixels = of_plain.ndim >= 3 and of_plain.shape[-3] == 3  # else patches by their number
    inner = 3 if pixels else 2
    views = of_ends.flatten(0, -inner - 1) if of_ends.ndim > inner else of_ends[None]
    if any(not torch.equal(view, views[0]) for view in views):  # frames of a video are alike
        return "tiles"
    if pixels and of_plain.flatten(-2).std(-1).max() > 1e-4:
        return "pad"
    return "stretch" if pixels and of_plain.shape == of_square.shape else "aspect"


def prepared(scorer: Any, image: Image.Image) -> Tensor:
    """Return the pixels, (..., 3, H, W), or the patches, (..., N, D), that a scorer prepares."""
    inputs = scorer.prepare(open_media(image))
    return max((t for t in _tensors(inputs) if t.is_floating_point()), key=Tensor.numel)


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif is_dataclass(inputs):
        yield from _tensors([getattr(inputs, part.name) for part in fields(inputs)])
    elif isinstance(inputs, (Mapping, list, tuple)):
        for part in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _tensors(part)
