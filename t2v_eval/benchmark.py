"""Benchmarks: items with labels, metrics over their scores, and the run of a scorer over them."""

from __future__ import annotations

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.media import MediaLike
from t2v_eval.metrics import Bootstrap, bootstrap
from t2v_eval.plan import Block
from t2v_eval.registry import Card
from t2v_eval.scorer import Progress, Scorer

Scores: TypeAlias = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Item:
    """The unit that intervals resample: M pictures, N texts, and what people said about them.

    One prompt with the pictures of six generators is one item of 6 x 1, not six items.
    """

    images: Sequence[MediaLike]
    texts: Sequence[str]
    labels: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    references: Sequence[Sequence[str]] | None = None
    id: str = ""


class Benchmark(ABC):
    """Items and metrics. Subclasses read published files in `items` and never print or download.

    Args:
        card: the registry's facts about it.
        root: the folder that holds its files, for benchmarks that have files.
    """

    def __init__(self, *, card: Card | None = None, root: str | Path | None = None) -> None:
        self.card = card or Card(type(self).__name__, type(self).__name__, type(self).__module__)
        self.root = None if root is None else Path(root).expanduser()

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.card.name

    @abstractmethod
    def items(self) -> Sequence[Item]:
        """All items, in a fixed order.

        Raises:
            BenchmarkDataError: files are missing or not as published; the message says which.
        """

    @abstractmethod
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        """Named metrics of (M, N) scores, one array an item; NaN cells are missing.

        It is called on every resample, so it should be vectorised.
        """


@dataclass(frozen=True, slots=True)
class Run:
    """What one scorer did on one benchmark; `metrics` and `by_tag` carry 95 % intervals."""

    scorer: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    metrics: Mapping[str, Bootstrap]
    by_tag: Mapping[str, Mapping[str, Bootstrap]]
    counts: Mapping[str, int]
    errors: Mapping[str, int]
    environment: Mapping[str, str]
    seconds: float
    items: Sequence[Item] = field(repr=False)
    scores: Scores = field(repr=False)


def evaluate(
    scorer: Scorer,
    benchmark: Benchmark,
    *,
    progress: Progress | None = None,
    resamples: int = 1000,
    seed: int = 0,
    **template: str | None,
) -> Run:
    """Score every item of `benchmark` and report its metrics, overall and for each tag.

    Args:
        resamples: bootstrap resamples of items behind the 95 % intervals.
        template: `question_template`, `answer_template` or `template`.

    Raises:
        BenchmarkDataError: the benchmark's files are missing.
        MediaError: a picture cannot be read, unless the scorer was loaded with on_error="skip".
    """
    started = time.perf_counter()
    items = benchmark.items()
    if not items:
        raise InputError(f"benchmark {benchmark.name!r} has no items")
    bound = scorer.with_template(**template)
    outcome = bound.evaluate_blocks(
        [Block(item.images, item.texts, item.references) for item in items], progress
    )
    used = sum(int(np.isfinite(s).sum()) for s in outcome.scores)
    counts = outcome.counts
    return Run(
        scorer={
            "name": scorer.name,
            "id": bound.id,
            "question": bound.template.question,
            "answer": bound.template.answer,
            "caution": scorer.card.caution,
            "truncated_texts": outcome.truncated,
        },
        benchmark={"name": benchmark.name, "items": len(items)},
        metrics=_measure(benchmark, items, outcome.scores, resamples, seed),
        by_tag={
            tag: _measure(benchmark, *_tagged(items, outcome.scores, tag), resamples, seed)
            for tag in dict.fromkeys(tag for item in items for tag in item.tags)
        },
        counts={
            "cells": counts.cells,
            "computed": counts.computed,
            "reused": counts.reused,
            "failed": counts.failed,
            "used": used,
        },
        errors=outcome.errors,
        environment=environment(scorer),
        seconds=time.perf_counter() - started,
        items=items,
        scores=outcome.scores,
    )


def environment(scorer: Scorer) -> dict[str, str]:
    """The versions and the device that numbers were made with."""
    packages = ("t2v-eval", "torch", "transformers", "open_clip_torch", "pillow", "numpy")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"device": str(getattr(scorer, "device", "remote"))}


def _tagged(items: Sequence[Item], scores: Scores, tag: str) -> tuple[list[Item], Scores]:
    chosen = [n for n, item in enumerate(items) if tag in item.tags]
    return [items[n] for n in chosen], [scores[n] for n in chosen]


def _measure(
    benchmark: Benchmark, items: Sequence[Item], scores: Scores, resamples: int, seed: int
) -> Mapping[str, Bootstrap]:
    def statistic(index: NDArray[np.int64]) -> Mapping[str, float]:
        chosen = index.tolist()
        return benchmark.metrics([items[n] for n in chosen], [scores[n] for n in chosen])

    return bootstrap(statistic, len(items), resamples=resamples, seed=seed)
