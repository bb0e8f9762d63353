"""Checks that several scorers pass alike: goldens, one pair at a time, order and batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from PIL import Image
from torch import nn

from t2v_eval.errors import T2VWarning
from t2v_eval.scoring.scorer import Scorer

# Upright, wide and square: padded, cropped or tiled in different ways.
SIZES = ((40, 90), (80, 30), (56, 56))


def draw_sizes() -> list[Image.Image]:
    """Draw an image of each of `SIZES`."""
    return [draw_image(seed, size) for seed, size in enumerate(SIZES)]


def draw_company() -> list[Image.Image]:
    """Draw 16 images of four sizes, one of them smaller and one far wider than a model's input."""
    sizes = [(12, 10), (300, 40), (64, 64), (33, 70)]
    return [draw_image(seed, sizes[seed % 4]) for seed in range(16)]


def check_golden(
    scorer: Scorer, case: Mapping[str, Any], folder: Path, notices: Mapping[str, str]
) -> None:
    """Scores of a golden case, asked with its templates, equal those of the original.

    Args:
        notices: a part of the warning that a case gives, by its id.
    """
    notice = notices.get(case["id"])
    with pytest.warns(T2VWarning, match=notice) if notice else nullcontext():
        scores = scorer(
            [str(folder / name) for name in case["images"]],
            case["texts"],
            question_template=case["question_template"],
            answer_template=case["answer_template"],
        )
    np.testing.assert_allclose(scores, case["scores"], rtol=1e-4, atol=1e-5)


def check_golden_batch(scorer: Scorer, case: Mapping[str, Any], folder: Path) -> None:
    """Scores of a golden data set equal those of the original."""
    dataset = [
        {**sample, "images": [str(folder / name) for name in sample["images"]]}
        for sample in case["dataset"]
    ]
    scores = scorer.batch_forward(dataset, batch_size=case["batch_size"])
    np.testing.assert_allclose(scores, case["scores"], rtol=1e-4, atol=1e-5)


def check_against_pairs(
    scorer: Scorer,
    score_pair: Callable[[Scorer, Image.Image, str, str], float],
    images: Sequence[Image.Image],
    texts: Sequence[str],
    question: str,
    answer: str,
) -> None:
    """Scores with shared work equal those of one pair at a time."""
    scores = scorer(images, texts, question_template=question, answer_template=answer)
    expected = [
        [
            score_pair(scorer, image, question.replace("{}", text), answer.replace("{}", text))
            for text in texts
        ]
        for image in images
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def check_company(
    scorer: Scorer, images: Sequence[Image.Image], texts: Sequence[str], alone: int | None = None
) -> torch.Tensor:
    """A score does not depend on what is scored with it: order, batch, or pairs alone.

    Args:
        alone: how many of the images are scored one by one; by default all.

    Returns:
        (M, N) scores.
    """
    together = scorer(images, texts)
    backwards = scorer(images[::-1], texts[::-1]).flip(0, 1)
    one_by_one = torch.stack(
        [torch.cat([scorer(image, text)[0] for text in texts]) for image in images[:alone]]
    )
    count = min(len(images), len(texts))
    pairs = scorer.score_pairs(images[:count], texts[:count])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(one_by_one, together[:alone], rtol=0, atol=1e-5)
    torch.testing.assert_close(pairs, together.diagonal(), rtol=0, atol=1e-5)
    return together


def check_text_limit(scorer: Scorer) -> None:
    """A text over the limit of CLIP keeps its start and its last token, and is counted."""
    exact = " ".join(["cat"] * 75)
    with pytest.warns(T2VWarning, match="1 of 2 texts are longer"):
        scores = scorer(draw_image(0), [exact, exact + " red" * 10_000])
    assert scores[0, 0] == scores[0, 1]


def count_rows(**modules: nn.Module) -> dict[str, int]:
    """Count the rows that modules get as their first argument from now on, by name."""
    rows = dict.fromkeys(modules, 0)

    def hook(name: str) -> Callable[..., None]:
        def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            rows[name] += len(args[0] if args else next(iter(kwargs.values())))

        return count

    for name, module in modules.items():
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
    return rows


def check_encoded_once(scorer: Scorer, rows: Mapping[str, int]) -> None:
    """M x N scores cost M images and N texts.

    Args:
        rows: what `count_rows(images=..., texts=...)` returned for its towers.
    """
    scores = scorer([draw_image(seed) for seed in range(8)], [f"{n} cats" for n in range(8)])
    assert scores.shape == (8, 8)
    assert rows == {"images": 8, "texts": 8}
