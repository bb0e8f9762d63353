"""A scorer whose images are scored by workers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from t2v_eval.cluster.pool import Pool
from t2v_eval.cluster.worker import Recipe, Task
from t2v_eval.errors import T2VWarning, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.local.dual_encoder import image_key
from t2v_eval.scoring.plan import Cells, Text, by_image
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store

TASKS_OF_WORKER = 4  # at least, so that workers end at about the same time


class ClusterScorer(Scorer):
    """Let workers score, each some images with all their texts.

    It has the id of the scorer that the workers have loaded, so that a store reuses scores wherever
    they were computed. This process alone writes the store: scores and embeddings are committed as
    they arrive.

    Args:
        pool: the workers.
        recipe: what they load.
        store: where scores are kept, or None.
    """

    uses_text: bool  # type: ignore[misc]  # as the scorer of the workers
    uses_references: bool  # type: ignore[misc]

    def __init__(self, pool: Pool, recipe: Recipe, store: str | Path | Store | None = None) -> None:
        loaded = pool.load(recipe)
        for message in loaded.warnings:
            warnings.warn(message, T2VWarning, stacklevel=3)
        self._pool, self._recipe, self._loaded = pool, recipe, loaded
        options = recipe.options
        super().__init__(
            card=loaded.card,
            on_error=options.on_error,
            allow_urls=options.allow_urls or False,
        )
        self.image_mode = loaded.image_mode
        self.template = loaded.template
        self.uses_text, self.uses_references = loaded.uses_text, loaded.uses_references
        self.image_roles = loaded.image_roles
        self.device = loaded.device
        if store is not None and loaded.unversioned:
            warnings.warn(f"no scores are stored: {loaded.unversioned}", T2VWarning, stacklevel=3)
        else:
            self.store = store
        self._warned: set[str] = set()

    @property
    @override
    def encoder_id(self) -> str:
        return self._loaded.encoder_id

    @override
    def check_versioned(self) -> None:
        pass  # the workers have checked it

    @property
    def execution(self) -> dict[str, str]:
        """Return how the workers run the model, for reports."""
        return {**self._loaded.execution, "workers": str(self._pool.count)}

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for numbers, chunk in self._pool.run(self._recipe, self._tasks(images, texts, cells)):
            for message in {*chunk.warnings} - self._warned:
                self._warned.add(message)
                warnings.warn(message, T2VWarning, stacklevel=2)
            self.note_truncated(chunk.truncated)
            if self.store is not None:
                for space, rows in chunk.embeddings.items():
                    self.store.put_embeddings(space, rows)
                for cells_asked in chunk.cells:
                    self.store.put_cells(*cells_asked)
            values = None if chunk.values is None else torch.from_numpy(chunk.values.copy())
            yield ScoreChunk(numbers, values, chunk.error, chunk.details)

    def _tasks(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[tuple[Task, NDArray[np.int64]]]:
        """Cut cells into tasks of as many images as a batch has, fewer where there are few."""
        _, spans = by_image(cells)
        fair = -(-len(spans) // (TASKS_OF_WORKER * self._pool.count))
        size = min(self._loaded.images_together, fair)
        whole = Task(images, texts, cells, self.template)
        for start in range(0, len(spans), size):
            numbers = np.concatenate(spans[start : start + size])
            task = whole.of_cells(numbers)
            yield self._with_embeddings(task), numbers

    def _with_embeddings(self, task: Task) -> Task:
        """Return a task with the embeddings of its images that the store has."""
        if self.store is None:
            return task
        keys = [image_key(media) for media in task.images]
        return replace(task, embeddings=self.store.get_embeddings(self.encoder_id, keys))

    @override
    def generate_texts(self, *arguments: Any) -> NoReturn:
        raise self._scores_alone("generate text")

    @override
    def explain_image(self, *arguments: Any) -> NoReturn:
        raise self._scores_alone("explain scores")

    def _scores_alone(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"the workers of {self.name!r} compute scores alone: to {what}, load it in this "
            "process with t2v_eval.load"
        )
