"""Metrics of small copies that several benchmarks share, by hand or by another program.

A function takes the items and their folder and returns scores, and what the metrics of those must
be. A metric of a single benchmark is in its module of tests.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from t2v_eval.evaluation.benchmark import Item

Scores = list[np.ndarray[Any, Any]]
Expected = dict[str, float]
Metric: TypeAlias = Callable[[list[Item], Path], tuple[Scores, Expected]]


def column(*values: float) -> np.ndarray[Any, Any]:
    """Scores of several images with a text."""
    return np.array(values, np.float32)[:, None]


def row(*values: float) -> np.ndarray[Any, Any]:
    """Scores of an image with several texts."""
    return np.array([values], np.float32)


def per_item(items: list[Item], of: Callable[[int], Any]) -> Scores:
    return [np.array(of(n), np.float32).reshape(len(i.images), -1) for n, i in enumerate(items)]


def pairs_right_but_the_last(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """In Winoground's form; the last item's texts are told apart and its images are not."""
    right, text_only = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]]
    share = (len(items) - 1) / len(items)
    scores = per_item(items, lambda n: text_only if n == len(items) - 1 else right)
    return scores, {"text": 1, "image": share, "group": share}


def true_but_the_first(*parts: int) -> Metric:
    """The first item's false text wins; `parts` are the sizes of what `macro` is the mean over."""

    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        def of(n: int) -> list[float]:
            down = [float(-k) for k in range(len(items[n].texts))]
            return down[::-1] if n == 0 else down

        metrics = {"accuracy": (len(items) - 1) / len(items)}
        if parts:
            metrics["macro"] = (len(parts) - 1 + (parts[0] - 1) / parts[0]) / len(parts)
        return per_item(items, of), metrics

    return case


def agreement(human: Callable[[Path], list[Any]], *names: str) -> Metric:
    """Scores of few values against ratings that are read here once more, cell by cell.

    Several raters' values of a cell are observations of their own.
    """

    def case(items: list[Item], root: Path) -> tuple[Scores, Expected]:
        rng = np.random.default_rng(1)
        rated = human(root)
        videos = [len(item.labels.get("frames", item.images)) for item in items]
        cells = [v * len(i.texts) for v, i in zip(videos, items, strict=True)]
        flat = rng.integers(0, 4, sum(cells)).astype(np.float32)
        scores = []
        for item, own in zip(items, np.split(flat, np.cumsum(cells)[:-1]), strict=True):
            matrix = np.empty((len(item.images), len(item.texts)), np.float32)
            if "frames" in item.labels:
                for frames, value in zip(item.labels["frames"], own, strict=True):
                    matrix[frames] = value
            else:
                matrix[:] = own.reshape(matrix.shape)
            scores.append(matrix)
        assert len(rated) == len(flat)
        s = np.concatenate(
            [[x] * len(np.atleast_1d(h)) for x, h in zip(flat, rated, strict=True)]
        ).astype(float)
        h = np.concatenate([np.atleast_1d(values) for values in rated]).astype(float)
        metrics = {
            "pearson": stats.pearsonr(s, h).statistic,
            "spearman": stats.spearmanr(s, h).statistic,
            "tau_b": stats.kendalltau(s, h).statistic,
            "tau_c": stats.kendalltau(s, h, variant="c").statistic,
            "acc23": acc23(s, h),
        }
        return scores, {name: metrics[name] for name in names or metrics}

    return case


def acc23(s: Any, h: Any) -> float:
    """Every threshold tried on every pair."""
    pairs = [(s[i] - s[j], h[i] - h[j]) for i, j in itertools.combinations(range(len(s)), 2)]
    return max(
        sum(b == 0 if abs(a) <= eps else a * b > 0 for a, b in pairs) / len(pairs)
        for eps in {0.0, *(abs(a) for a, _ in pairs)}
    )


def models_of(file: str, *order: str) -> Callable[[Path], list[float]]:
    def read(root: Path) -> list[float]:
        content = json.loads((root / file).read_text())
        return [
            float(np.mean(row["models"][name]))
            for row in content.values()
            for name in order
            if name in row["models"]
        ]

    return read


def ranked(*pairs: tuple[int, int, int]) -> Metric:
    """Scores fall from image to image; `pairs` of each prompt: right, wrong, tied ranks."""

    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        right, wrong, _ = map(sum, zip(*pairs, strict=True))
        each = [1 - w / (r + w + t) for r, w, t in pairs]
        scores = per_item(items, lambda n: [-k for k in range(len(items[n].images))])
        return scores, {"accuracy": right / (right + wrong), "ranking": float(np.mean(each))}

    return case
