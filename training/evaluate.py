"""Measure group accuracy on drawn items: ``python -m training.evaluate``.

An item counts when each image prefers its own caption and each caption its own image,
strictly; guessing gets one in six.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t2v_eval.benchmarks.forms.drawn_scenes import SKILLS, SceneItem, items

from . import data
from .export import load_clip, load_vqa
from .models import embed_images, embed_texts

Score = Callable[[SceneItem], Tensor]  # -> 2 x 2, images by captions


def scorer(folder: Path) -> Score:
    """Load the model in a folder, of either kind, as a function that scores an item."""
    return vqa_scorer(folder) if (folder / "vision_tower").is_dir() else clip_scorer(folder)


def clip_scorer(folder: Path) -> Score:
    """Load a CLIP; it scores the cosine."""
    model, tokenizer = load_clip(folder)
    return lambda item: (
        embed_images(model, _pixels(item)) @ embed_texts(model, tokenizer, item.texts).T
    )


def vqa_scorer(folder: Path, question: str = data.TEMPLATES[0][0], answer: str = "Yes") -> Score:
    """Load a CLIP-FlanT5; it scores the probability of an answer, as `ClipFlanT5` does.

    Args:
        folder: of the model.
        question: with ``{}`` for the caption.
        answer: with or without ``{}``.
    """
    model = load_vqa(folder)

    def score(item: SceneItem) -> Tensor:
        texts = list(item.texts) * 2
        questions = [question.replace("{}", text) for text in texts]
        answers = [answer.replace("{}", text) for text in texts]
        states, mask = model.encode(model.encode_vision(_pixels(item)), [0, 0, 1, 1], questions)
        log_p, length = model.answer_log_likelihood(states, mask, answers)
        return (log_p / length).exp().view(2, 2)

    return score


def _pixels(item: SceneItem) -> Tensor:
    return data.normalise(np.stack([np.asarray(image) for image in item.images]))


@torch.inference_mode()
def evaluate(score: Score, scene_items: Sequence[SceneItem]) -> dict[str, Any]:
    """Measure group accuracy in per cent, over all items and over parts.

    Args:
        score: returns the (2, 2) scores of an item, images by captions.
        scene_items: to score.

    Returns:
        For each part, `group` with its 95 % interval `low` to `high`, and the number of `items`.

    >>> always_right = lambda item: torch.eye(2)
    >>> evaluate(always_right, items(6, 0))["all"]
    {'group': 100.0, 'low': 100.0, 'high': 100.0, 'items': 6}
    """
    right = np.array([_group(score(item)) for item in scene_items])
    skills = np.array([item.skill for item in scene_items])
    held_out = np.array([item.held_out for item in scene_items])
    parts = {"all": right, "held-out": right[held_out], "seen": right[~held_out]}
    parts |= {skill: right[skills == skill] for skill in SKILLS}
    return {name: _interval(part) for name, part in parts.items() if part.size}


def _group(s: Tensor) -> bool:
    picks_text = s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0]
    return bool(picks_text and s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1])


def _interval(right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share in per cent with its 95 % bootstrap interval over items."""
    samples = np.random.default_rng(0).binomial(right.size, right.mean(), 10_000) / right.size
    low, high = np.percentile(samples, [2.5, 97.5])
    numbers = {"group": right.mean(), "low": low, "high": high}
    return {k: round(100 * float(v), 1) for k, v in numbers.items()} | {"items": right.size}


def main() -> None:
    """Print the scores of the model folders that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="model folders")
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="0 is the benchmark's own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scene_items = items(args.items, args.seed)
    for folder in args.folders:
        print(json.dumps({folder.name: evaluate(scorer(folder), scene_items)}))


if __name__ == "__main__":
    main()
