"""One run over a plan: scores that the store has, then those that are computed, as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import ScoringError
from t2v_eval.scoring.cautions import strings_of
from t2v_eval.scoring.generation import excerpt
from t2v_eval.scoring.plan import Plan, Text, caption_text
from t2v_eval.scoring.results import CellCounts, Progress, ScoreChunk, ScoringResult
from t2v_eval.store import Store, text_key


class Execution:
    """The scores of a plan's cells while they are computed.

    Args:
        plan: the cells.
        store: where scores are looked up and each chunk is committed; None for neither.
        scorer_id: under which id.
        name: the scorer's name in messages.
        skip_errors: whether failed cells stay NaN and are counted, or raise.
        progress: called with the counts at the start and after each chunk.

    >>> from PIL import Image
    >>> import torch
    >>> from t2v_eval.scoring.plan import Block
    >>> plan = Plan.of([Block.of(Image.new("RGB", (4, 2)), ["a cat", "a dog"])])
    >>> run = Execution(plan, None, "", "mine", skip_errors=False, progress=lambda counts: None)
    >>> cells = run.missing()
    >>> run.add(ScoreChunk(cells, torch.tensor([0.5, 0.25])), cells)
    >>> run.result(0, []).scores[0].tolist()
    [[0.5, 0.25]]
    """

    def __init__(
        self,
        plan: Plan,
        store: Store | None,
        scorer_id: str,
        name: str,
        *,
        skip_errors: bool,
        progress: Progress,
    ) -> None:
        self.plan, self.store, self.scorer_id, self.name = plan, store, scorer_id, name
        self.skip_errors, self.progress = skip_errors, progress
        self.values: NDArray[np.float32] = np.full(len(plan.cells), np.nan, np.float32)
        self.errors: dict[int, str] = {}
        self.details: dict[int, str] = {}
        self._keys: list[tuple[str, str]] = []
        if store is not None:
            self._look_up(store)
        reused = len(self.values) - len(self.missing())
        self.counts = CellCounts(cells=len(self.values), reused=reused)
        progress(self.counts)

    def _look_up(self, store: Store) -> None:
        images, texts = self.plan.images, self.plan.texts
        self._keys = [(images[i].key, _key(texts[j])) for i, j in self.plan.cells.tolist()]
        stored = store.get_cells(self.scorer_id, self._keys)
        self.values[:] = [stored.get(key, np.nan) for key in self._keys]
        if len(self.missing()) < len(self.values):
            details = store.get_details(self.scorer_id, stored)
            self.details = {p: details[key] for p, key in enumerate(self._keys) if key in details}

    def missing(self) -> NDArray[np.int64]:
        """Return the indices of cells that have no score."""
        return np.flatnonzero(np.isnan(self.values))

    def add(self, chunk: ScoreChunk, cells: NDArray[np.int64]) -> None:
        """Record a chunk and commit it to the store.

        Args:
            chunk: scores, or the reason why they are missing.
            cells: indices of the chunk's cells in the plan.

        Raises:
            ScoringError: the chunk failed, unless errors are skipped.
        """
        if chunk.values is not None:
            self.values[cells] = chunk.values.float().cpu().numpy()
            self.counts = replace(self.counts, computed=self.counts.computed + len(cells))
        else:
            reason = chunk.error or ""
            if not self.skip_errors:
                image, text = self.plan.cells[cells[0]]
                what = self.plan.images[image].name
                if what not in reason:
                    caption = caption_text(self.plan.texts[text])
                    reason = f"{what} with {excerpt(caption)!r}: {reason}"
                raise ScoringError(f"{self.name!r}: {reason}")
            self.errors |= dict.fromkeys(cells.tolist(), reason)
            self.counts = replace(self.counts, failed=self.counts.failed + len(cells))
        details = zip(cells.tolist(), chunk.details or (), strict=False)
        self.details |= {cell: detail for cell, detail in details if detail is not None}
        if self.store is not None:
            self._commit(self.store, chunk, cells)
        self.progress(self.counts)

    def _commit(self, store: Store, chunk: ScoreChunk, cells: NDArray[np.int64]) -> None:
        images, texts = self.plan.images, self.plan.texts
        details = zip(cells.tolist(), chunk.details or repeat(None), strict=False)
        coordinates = self.plan.cells[cells].tolist()
        store.put_cells(
            self.scorer_id,
            [
                (
                    *self._keys[p],
                    None if chunk.error else float(self.values[p]),
                    chunk.error,
                    detail,
                )
                for p, detail in details
            ],
            {images[i].key: images[i].name for i, _ in coordinates},
            {_key(texts[j]): caption_text(texts[j]) for _, j in coordinates},
        )

    def result(self, truncated: int, cautions: Sequence[str]) -> ScoringResult:
        """Fold the cells into one array for each block."""
        return ScoringResult(
            self.plan.fold(self.values),
            self.counts,
            Counter(self.errors.values()),
            self.plan.locate(self.errors),
            self.plan.locate(self.details),
            truncated,
            cautions,
            images_sha256=self.plan.images_sha256(),
        )


def _key(text: Text) -> str:
    return text_key("\0".join(strings_of(text)))
