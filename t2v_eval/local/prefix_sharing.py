"""Scorers that read the picture before its texts, so that what they made of it is shared.

Several pictures are read together, and then their texts, in batches that are found: where memory
runs out, what is kept is let go of, then there are fewer texts at a time, then fewer pictures.
What is finished stays finished.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from torch import Tensor

from t2v_eval.inputs.media import Media
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.batching import BatchSize, Failure, try_run
from t2v_eval.scoring.plan import Cells, Text, by_length
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import caption_text

State = TypeVar("State")
Begun = TypeVar("Begun", bound="Start")


class Start(Protocol):
    """What a picture and its texts begin with; `length` is how many tokens that is at most."""

    @property
    def length(self) -> int: ...


@dataclass
class Job:
    """A picture's texts that have no score yet, and their positions; shorter texts first."""

    name: str
    start: Any
    texts: list[str]
    positions: list[int]

    def only(self, positions: Collection[int]) -> Job:
        left = [p in positions for p in self.positions]
        texts, places = compress(self.texts, left), compress(self.positions, left)
        return replace(self, texts=list(texts), positions=list(places))


class PrefixSharingScorer(LocalScorer, Generic[State, Begun]):
    """A model whose texts come after the picture, so that what it made of the picture is shared.

    Subclasses write `preprocess`, `see`, `begin`, `read` and `score`. Pictures of like length are
    read together, as many as `room` tokens hold; on a CPU, long ones gain nothing by it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.room = 1024 if self.device.type == "cpu" else 16384

    @abstractmethod
    def see(self, prepared: Sequence[Any]) -> Sequence[State]:
        """Model inputs of pictures -> what is kept of each."""

    @abstractmethod
    def begin(self, state: State, texts: Sequence[str]) -> Begun:
        """A picture and all texts that will be scored with it; no template applied yet.

        Raises:
            MediaError: it leaves no room for a text.
        """

    @abstractmethod
    def read(self, starts: Sequence[Begun]) -> Any:
        """What the texts of each of several pictures have in common, read once."""

    @abstractmethod
    def score(self, reading: Any, pairs: Sequence[tuple[int, str]]) -> Tensor:
        """Pairs of a picture, by its place in what was read, and a text -> scores (P,)."""

    def judge(
        self, reading: Any, pairs: Sequence[tuple[int, str]]
    ) -> tuple[Tensor, Sequence[str] | None]:
        """As `score`, with what else the model said of each pair as JSON, if anything."""
        return self.score(reading, pairs), None

    def start_batches_at(self, size: int | None) -> None:
        if size is not None:
            most = 4 if self.device.type == "cpu" else 16
            self.batch, self.image_batch = BatchSize(size), BatchSize(min(size, most))

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, spans = by_length(cells, texts)
        media = [images[i] for i in rows]
        for states, failed in self._cached_states(media, self.see):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            jobs = []
            for n, state in states.items():
                own = [(caption_text(texts[cells[p, 1]]), int(p)) for p in spans[n]]
                own.sort(key=lambda pair: len(pair[0]))
                captions = [text for text, _ in own]
                start = try_run(lambda own: self.begin(*own), (state, captions))
                if isinstance(start, Failure):
                    yield ScoreChunk(spans[n], None, self._failure_reason(media[n].name, start))
                    continue
                jobs.append(Job(media[n].name, start, captions, [p for _, p in own]))
            yield from self._score_jobs(jobs)

    def _score_jobs(self, jobs: list[Job]) -> Iterator[ScoreChunk]:
        """Scores of pictures in groups; what did not fit is tried again in smaller ones."""
        while jobs:
            jobs.sort(key=lambda job: (len(job.texts) > 1, job.start.length))
            again: list[Job] = []
            for group in self._groups(jobs):
                parts = self.image_batch.run_adaptive(
                    group, lambda part: self.read([job.start for job in part]), self._cache.clear
                )
                for part, reading in parts:
                    alone: list[Job] = []
                    if isinstance(reading, Failure):
                        job = group[part.start]
                        yield ScoreChunk(
                            np.array(job.positions), None, self._failure_reason(job.name, reading)
                        )
                    else:
                        more, alone = yield from self._score_read(reading, group[part])
                        again += more
                    del reading  # or it would be there beside the next
                    for job in alone:
                        yield from self._score_jobs([job])
            jobs = again

    def _groups(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Neighbours whose tokens, with padding, are at most `room`."""
        group: list[Job] = []
        for job in jobs:
            if group and (len(group) + 1) * job.start.length > self.room:
                yield group
                group = []
            group.append(job)
        yield group

    def _score_read(
        self, reading: Any, group: Sequence[Job]
    ) -> Generator[ScoreChunk, None, tuple[list[Job], list[Job]]]:
        """Yield scores, and return what did not fit beside so many pictures, and what failed.

        What failed may do so only beside the other pictures, so that it is tried without them.
        """
        # In turns, so that a batch has as many texts of one picture as of another.
        pairs = [
            (n, k, job.texts[n], job.positions[n])
            for k, job in enumerate(group)
            for n in range(len(job.texts))
        ]
        pairs.sort(key=lambda pair: pair[:2])

        def judge(
            part: Sequence[tuple[int, int, str, int]],
        ) -> tuple[Tensor, Sequence[str] | None]:
            return self.judge(reading, [(k, text) for _, k, text, _ in part])

        def jobs_of(positions: set[int]) -> list[Job]:
            return [job.only(positions) for job in group if positions & {*job.positions}]

        size = self.batch.value
        failed = set[int]()
        for part, judged in self.batch.run_adaptive(pairs, judge, self._cache.clear):
            positions = np.array([p for *_, p in pairs[part]])
            if not isinstance(judged, Failure):
                yield ScoreChunk(positions, judged[0], details=judged[1])
            elif len(group) == 1:
                text = pairs[part.start][2]
                name = group[0].name if judged.error is None else f"{group[0].name} with {text!r}"
                yield ScoreChunk(positions, None, self._failure_reason(name, judged))
            elif judged.error is None:
                self.batch.value, self.image_batch.value = size, len(group) // 2
                return jobs_of({p for *_, p in pairs[part.start :]}), jobs_of(failed)
            else:
                failed |= {*positions.tolist()}
        return [], jobs_of(failed)
