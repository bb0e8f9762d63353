"""What a worker does: load a scorer, and score images with their texts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VWarning, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.template import Template
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk, of_all_cells
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store
from t2v_eval.utils.torch_internals import inference

MOST_TEXT_ROWS = 100_000  # embeddings of texts that a worker keeps between tasks
SMALL_TASK = 16  # images of a task, for a scorer without batches
# What a scorer takes of a benchmark (`for_benchmark`), and the option that holds it instead.
NEEDS = {"questions": "questions", "requirements": "metadata", "target_texts": "target"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker loads: the card of a scorer and its options, without a store.

    >>> from t2v_eval.registry import models
    >>> Recipe(models.card("tiny-clip"), ScorerOptions(device="cpu")).card.name
    'tiny-clip'
    """

    card: ModelCard
    options: ScorerOptions


@dataclass(frozen=True, slots=True)
class LoadedScorer:
    """What a worker says of the scorer that it has loaded.

    Attributes:
        card: its card; a file of the user's own may hold another name than that of its family.
        encoder_id: see `Scorer.encoder_id`.
        template: its template, with those of the options.
        image_mode: its image mode.
        uses_text, uses_references, image_roles: as of the class.
        device: where it runs.
        execution: facts for reports.
        images_together: the images of a batch.
        unversioned: why a store cannot keep its scores, or "".
        warnings: what was warned of while it was loaded.

    >>> from t2v_eval.registry import models
    >>> LoadedScorer(models.card("tiny-clip"), "mine v1", Template("{}", ""), "seen").uses_text
    True
    """

    card: ModelCard
    encoder_id: str
    template: Template
    image_mode: Any
    uses_text: bool = True
    uses_references: bool = False
    image_roles: tuple[str, ...] = ()
    device: str = "cpu"
    execution: Mapping[str, str] = field(default_factory=dict)
    images_together: int = SMALL_TASK
    unversioned: str = ""
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """Images with their texts that one worker scores.

    Attributes:
        images: M images.
        texts: N texts.
        cells: (C, 2) indices into both, sorted by image, then text.
        template: question and answer.
        embeddings: stored embeddings of these images by key; None where no store keeps any.

    >>> Task([], ["a cat"], np.empty((0, 2), np.int64), Template("{}", "")).embeddings is None
    True
    """

    images: Sequence[Media]
    texts: Sequence[Text]
    cells: Cells
    template: Template
    embeddings: Mapping[str, NDArray[np.float32]] | None = None

    def of_cells(self, positions: NDArray[np.int64]) -> Task:
        """Return the task of some of the cells alone, with their images and texts.

        Args:
            positions: indices into `cells`, sorted.

        >>> cells = np.array([[0, 0], [0, 1], [1, 0]])
        >>> task = Task(["a", "b"], ["x", "y"], cells, Template("{}", ""))
        >>> task.of_cells(np.array([2])).images
        ['b']
        """
        images, rows = np.unique(self.cells[positions, 0], return_inverse=True)
        texts, columns = np.unique(self.cells[positions, 1], return_inverse=True)
        return replace(
            self,
            images=[self.images[i] for i in images],
            texts=[self.texts[j] for j in texts],
            cells=np.stack([rows, columns], axis=1),
        )


class StoredCells(NamedTuple):
    """Cells of a scorer that another one asks; the arguments of `Store.put_cells`.

    >>> StoredCells("mine v1", [("cat", "text", 0.5, None, None)], {}, {}).scorer
    'mine v1'
    """

    scorer: str
    rows: Sequence[tuple[str, str, float | None, str | None, str | None]]
    names: Mapping[str, str]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TaskChunk:
    """Finished cells of a task, in a form that can be sent.

    Attributes:
        positions: (C,) indices into `Task.cells`.
        values: (C,) scores; None where they failed.
        error: why the values are missing; None where they are not.
        details: see `ScoreChunk.details`.
        truncated: texts that the model cut, since the last chunk.
        embeddings: rows for the store, by encoder and key.
        cells: of a scorer that this one asks, for the store.
        warnings: what was warned of since the last chunk.

    >>> TaskChunk(np.array([0]), None, "the image is damaged").values is None
    True
    """

    positions: NDArray[np.int64]
    values: NDArray[np.float32] | None
    error: str | None = None
    details: Sequence[str | None] | None = None
    truncated: Sequence[str] = ()
    embeddings: Mapping[str, Mapping[str, NDArray[np.float32]]] = field(default_factory=dict)
    cells: Sequence[StoredCells] = ()
    warnings: Sequence[str] = ()


class Worker:
    """A process that holds one scorer at a time.

    Args:
        folder: the current folder of the program that scores, where relative paths start.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> from t2v_eval.registry import models
    >>> worker = Worker(".")
    >>> recipe = Recipe(models.card("tiny-clip"), ScorerOptions(device="cpu"))
    >>> template = worker.load(recipe).template
    >>> red = open_media(Image.new("RGB", (8, 8), "red"))
    >>> (chunk,) = worker.score(Task([red], ["a cat"], np.array([[0, 0]]), template))
    >>> chunk.positions.tolist(), chunk.error
    ([0], None)
    """

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # of another machine; absolute paths are found all the same
            os.chdir(folder)
        self._scorer: Scorer
        self._rows = SentRows()

    def load(self, recipe: Recipe) -> LoadedScorer:
        """Load a scorer in the place of the last.

        Raises:
            UnsupportedError: it needs what a benchmark says, such as questions.
            T2VError: as `t2v_eval.load`.
        """
        self.__dict__.pop("_scorer", None)  # its memory is needed
        self._rows = SentRows()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scorer = recipe.options.load(recipe.card)
        for what, option in NEEDS.items():
            if getattr(scorer, f"needs_{what}", False):
                raise UnsupportedError(
                    f"{scorer.name!r} takes the {what.replace('_', ' ')} of a benchmark, which "
                    f"workers of Ray do not have: pass `{option}=`, or score it with `shard=`"
                )
        try:
            scorer.check_versioned()
            unversioned = ""
            scorer.store = self._rows
        except InputError as error:
            unversioned = str(error)
        execution = dict(getattr(scorer, "execution", {}))
        loaded = LoadedScorer(
            scorer.card,
            scorer.encoder_id,
            scorer.template,
            scorer.image_mode,
            scorer.uses_text,
            scorer.uses_references,
            scorer.image_roles,
            str(getattr(scorer, "device", "cpu")),
            execution,
            int(execution.get("image_batch_size", SMALL_TASK)),
            unversioned,
            _messages(caught),
        )
        # Sizes are checked where all images are known.
        scorer.card = replace(scorer.card, expects_size=None)
        self._scorer = scorer
        return loaded

    def score(self, task: Task) -> Iterator[TaskChunk]:
        """Score the cells of a task; yield each part when it is finished.

        Raises:
            T2VError: as the scorer; the run ends.
        """
        scorer = self._scorer.with_template()
        scorer.template = task.template
        self._rows.receive(task.embeddings)
        with warnings.catch_warnings(record=True) as caught, inference():
            warnings.simplefilter("always")
            scorer.check_template()
            caught.clear()  # the driver warns of the template itself
            chunks = scorer.score_cells(task.images, task.texts, task.cells)
            for chunk in of_all_cells(chunks, len(task.cells)):
                truncated = sorted(scorer.take_truncated())
                yield self._sendable(chunk, truncated, _messages(caught))
                caught.clear()

    def _sendable(
        self, chunk: ScoreChunk, truncated: Sequence[str], messages: Sequence[str]
    ) -> TaskChunk:
        values = None if chunk.values is None else chunk.values.float().cpu().numpy()
        rows, cells = self._rows.take()
        return TaskChunk(
            chunk.positions, values, chunk.error, chunk.details, truncated, rows, cells, messages
        )


class SentRows(Store):
    """Rows in memory, in the place of a store: embeddings that were sent, and rows to send.

    >>> rows = SentRows()
    >>> rows.receive({})
    >>> rows.put_embeddings("mine v1", {"text:a": np.ones(2, np.float32)})
    >>> embeddings, cells = rows.take()
    >>> list(embeddings["mine v1"]), list(rows.get_embeddings("mine v1", ["text:a", "text:b"]))
    (['text:a'], ['text:a'])
    """

    def __init__(self) -> None:
        self.path = Path("of the program that scores")  # in messages
        self._sent: Mapping[str, NDArray[np.float32]] = {}
        self._texts: dict[tuple[str, str], NDArray[np.float32]] = {}
        self._new: dict[str, dict[str, NDArray[np.float32]]] = {}
        self._cells: list[StoredCells] = []
        self._keeps = False

    def receive(self, embeddings: Mapping[str, NDArray[np.float32]] | None) -> None:
        """Take the stored embeddings of a task's images; None if no rows are to be sent back."""
        self._sent, self._keeps = embeddings or {}, embeddings is not None
        self._new.clear()
        self._cells.clear()

    def take(self) -> tuple[dict[str, dict[str, NDArray[np.float32]]], list[StoredCells]]:
        """Return what is new since the last call: embeddings by encoder and key, and cells."""
        new, self._new = self._new, {}
        cells, self._cells = self._cells, []
        return new, cells

    @override
    def get_cells(
        self, scorer: str, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], float]:
        return {}

    @override
    def put_cells(
        self,
        scorer: str,
        rows: Iterable[tuple[str, str, float | None, str | None, str | None]],
        names: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> None:
        if self._keeps:
            self._cells.append(StoredCells(scorer, [*rows], names, texts))

    @override
    def get_embeddings(self, space: str, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        rows = {key: self._texts.get((space, key), self._sent.get(key)) for key in keys}
        return {key: row for key, row in rows.items() if row is not None}

    @override
    def put_embeddings(self, space: str, rows: Mapping[str, NDArray[np.float32]]) -> None:
        if self._keeps:
            self._new.setdefault(space, {}).update(rows)
        if len(self._texts) + len(rows) > MOST_TEXT_ROWS:
            self._texts.clear()
        # An image is in one task; its texts are in many.
        self._texts |= {
            (space, key): row for key, row in rows.items() if not key.startswith("image:")
        }


def _messages(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    messages = (
        str(warning.message) for warning in caught if issubclass(warning.category, T2VWarning)
    )
    return list(dict.fromkeys(messages))
