"""How far `score_tensor` is from the scores of the same images, on small random weights.

    PYTHONPATH=tests python tests/helpers/models/gradients.py

Prints the table of docs/differentiable.md; test_differentiable.py holds the bounds.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.models.clip_goldens import FOLDER, RGB
from helpers.models.tiny import VARIANTS, Small
from PIL import Image

from t2v_eval.registry import models

TEXTS = ["a red cube on a blue sphere", "A photo of a cat sleeping on a windowsill.", "two dogs"]
ODD = {"clip-iqa": ["quality", "happy", "Bright photo.|Dark photo."]}
DIFFERENTIABLE = [v for v, (name, _) in VARIANTS.items() if models.card(name).differentiable]


def texts_of(variant: str) -> list[str]:
    return ODD.get(variant, TEXTS)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """RGB -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].double() / 255


def golden_images() -> list[Image.Image]:
    return [Image.open(FOLDER / "images" / name).convert("RGB") for name in RGB]


def distances(
    scorer: Any, images: Sequence[Image.Image], texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `score_tensor` is off, (M, N), and the scores that it should give."""
    exact = scorer(images, texts)
    result = [
        scorer.score_tensor(to_tensor(i).expand(len(texts), -1, -1, -1), texts) for i in images
    ]
    return (torch.stack(result).detach() - exact).abs(), exact


def main() -> None:
    torch.set_num_threads(1)
    print("| small model | largest difference | mean difference | spread of its scores |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = Small(Path(temporary))
        for variant in DIFFERENTIABLE:
            scorer = small.load(variant)
            off, exact = distances(scorer, golden_images(), texts_of(variant))
            spread = exact.std(dim=0).mean()
            print(f"| {variant} | {off.max():.1e} | {off.mean():.1e} | {spread:.1e} |")


if __name__ == "__main__":
    main()
