"""Scorers that put the image before its texts, so that one prefill serves all texts of an image.

Several images are prefilled together, then their texts are scored in batches whose sizes adapt. On
out-of-memory: clear the feature cache, then halve the text batch, then the image batch. Scores that
were finished before stay. The KV cache itself is in `backends/vlm/reading/prefix.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.inputs.media import Media
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.batching import BatchSize, Failure, try_run
from t2v_eval.scoring.plan import Cells, Text, by_length, caption_text
from t2v_eval.scoring.results import ScoreChunk


class Prompt(Protocol):
    """The shared prefix of an image and its texts.

    >>> from types import SimpleNamespace
    >>> prompt: Prompt = SimpleNamespace(length=600)  # any class with such a property will do
    """

    @property
    def length(self) -> int:
        """Return the number of tokens of the prefix and the longest text, at most."""


State = TypeVar("State")
PromptT = TypeVar("PromptT", bound=Prompt)


@dataclass
class PendingTexts:
    """The texts of an image that have no score yet, shortest first.

    Attributes:
        name: the image's name in messages.
        prompt: what `PrefixSharingScorer.build_prompt` returned for the image.
        texts: captions, without references.
        positions: the cell of each text.

    >>> pending = PendingTexts("a.png", None, ["a cat", "two dogs"], [4, 7])
    >>> pending.only({7}).texts
    ['two dogs']
    """

    name: str
    prompt: Any
    texts: list[str]
    positions: list[int]

    def only(self, positions: Collection[int]) -> PendingTexts:
        """Return a copy with only the texts of some cells.

        Args:
            positions: the cells; others than those of this image are ignored.
        """
        keep = [p in positions for p in self.positions]
        texts, places = compress(self.texts, keep), compress(self.positions, keep)
        return replace(self, texts=list(texts), positions=list(places))


class PrefixSharingScorer(LocalScorer, Generic[State, PromptT]):
    """A model whose texts follow the image, so that the image's prefix is computed once.

    Subclasses write `preprocess`, `encode_images`, `build_prompt`, `prefill` and `score`. Options
    are those of `LocalScorer`.

    Attributes:
        room: images of similar length are prefilled together while they have at most this many
            tokens, padding included; on a CPU, long prefixes gain nothing from it.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> from PIL import Image
    >>> class Brightness(PrefixSharingScorer):
    ...     default_template = "plain"
    ...     def preprocess(self, image):
    ...         return image.convert("L").resize((1, 1)).getpixel((0, 0)) / 255
    ...     def encode_images(self, prepared):
    ...         return list(prepared)
    ...     def build_prompt(self, state, texts):
    ...         return SimpleNamespace(length=1 + max(map(len, texts)), state=state)
    ...     def prefill(self, prompts):
    ...         return [prompt.state for prompt in prompts]
    ...     def score(self, prefilled, pairs):
    ...         return torch.tensor(
    ...             [prefilled[k] if "bright" in text else 1 - prefilled[k] for k, text in pairs]
    ...         )
    >>> Brightness(device="cpu")(Image.new("L", (8, 8), 255), ["a bright wall", "a dark wall"])
    tensor([[1., 0.]])
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.room = _room(self.device)

    @abstractmethod
    def encode_images(self, prepared: Sequence[Any]) -> Sequence[State]:
        """Encode what depends on the image alone.

        Args:
            prepared: what `preprocess` returned for B images.

        Returns:
            The state of each image, such as its features; it may be cached between calls.
        """

    @abstractmethod
    def build_prompt(self, state: State, texts: Sequence[str]) -> PromptT:
        """Build the prompt of an image and all its texts.

        Args:
            state: what `encode_images` returned for the image.
            texts: its texts, shortest first, to which the template is not yet applied.

        Raises:
            MediaError: the image leaves no room for a text.
        """

    @abstractmethod
    def prefill(self, prompts: Sequence[PromptT]) -> Any:
        """Compute the shared prefixes of several images, such as their KV caches.

        Args:
            prompts: prompts of similar length.
        """

    @abstractmethod
    def score(self, prefilled: Any, pairs: Sequence[tuple[int, str]]) -> Tensor:
        """Score P texts behind prefixes.

        Args:
            prefilled: what `prefill` returned.
            pairs: for each score, the index of its prompt in `prefilled`, and its text.

        Returns:
            (P,) scores.
        """

    def score_with_details(
        self, prefilled: Any, pairs: Sequence[tuple[int, str]]
    ) -> tuple[Tensor, Sequence[str] | None]:
        """Score as `score` does, and return details of each pair as JSON, or None without any.

        Args:
            prefilled: as for `score`.
            pairs: as for `score`.
        """
        return self.score(prefilled, pairs), None

    @override
    def _move(self, copies: Sequence[Self], device: torch.device) -> None:
        super()._move(copies, device)
        for scorer in copies:
            scorer.room = _room(device) if scorer.room else 0

    @override
    def start_batches_at(self, size: int | None) -> None:
        if size is not None:
            largest = 4 if self.device.type == "cpu" else 16
            self.batch, self.image_batch = BatchSize(size), BatchSize(min(size, largest))

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, spans = by_length(cells, texts)
        media = [images[i] for i in rows]
        for states, failed in self._cached_states(media, self.encode_images):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            pending = []
            for n, state in states.items():
                pairs = [(caption_text(texts[cells[p, 1]]), int(p)) for p in spans[n]]
                pairs.sort(key=lambda pair: len(pair[0]))
                captions = [text for text, _ in pairs]
                prompt = try_run(lambda args: self.build_prompt(*args), (state, captions))
                if isinstance(prompt, Failure):
                    yield ScoreChunk(spans[n], None, self._failure_reason(media[n].name, prompt))
                    continue
                positions = [p for _, p in pairs]
                pending.append(PendingTexts(media[n].name, prompt, captions, positions))
            yield from self._score_pending(pending)

    def _score_pending(self, pending: list[PendingTexts]) -> Iterator[ScoreChunk]:
        """Score images in groups; retry what did not fit into memory in smaller groups."""
        while pending:
            pending.sort(key=lambda image: (len(image.texts) > 1, image.prompt.length))
            retry: list[PendingTexts] = []
            for group in self._groups(pending):
                parts = self.image_batch.run_adaptive(
                    group,
                    lambda part: self.prefill([image.prompt for image in part]),
                    self._cache.clear,
                )
                for part, prefilled in parts:
                    retry_alone: list[PendingTexts] = []
                    if isinstance(prefilled, Failure):
                        image = group[part.start]
                        reason = self._failure_reason(image.name, prefilled)
                        yield ScoreChunk(np.array(image.positions), None, reason)
                    else:
                        unfit, retry_alone = yield from self._score_group(prefilled, group[part])
                        retry += unfit
                    del prefilled  # or it would stay in memory beside the next one
                    for image in retry_alone:
                        yield from self._score_pending([image])
            pending = retry

    def _groups(self, pending: Sequence[PendingTexts]) -> Iterator[list[PendingTexts]]:
        """Split images into runs of neighbours with at most `room` tokens, padding included."""
        group: list[PendingTexts] = []
        for image in pending:
            if group and (len(group) + 1) * image.prompt.length > self.room:
                yield group
                group = []
            group.append(image)
        yield group

    def _score_group(
        self, prefilled: Any, group: Sequence[PendingTexts]
    ) -> Generator[ScoreChunk, None, tuple[list[PendingTexts], list[PendingTexts]]]:
        """Yield the scores of a prefilled group of images.

        Returns:
            What did not fit into memory beside the other images, and what failed otherwise. The
            latter is retried without the other images, since it may fail only beside them.
        """
        # Round-robin over images, so that a batch has about as many texts of each.
        pairs = [
            (n, k, image.texts[n], image.positions[n])
            for k, image in enumerate(group)
            for n in range(len(image.texts))
        ]
        pairs.sort(key=lambda pair: pair[:2])

        def score(
            part: Sequence[tuple[int, int, str, int]],
        ) -> tuple[Tensor, Sequence[str] | None]:
            return self.score_with_details(prefilled, [(k, text) for _, k, text, _ in part])

        def pending_at(positions: set[int]) -> list[PendingTexts]:
            return [image.only(positions) for image in group if positions & {*image.positions}]

        size = self.batch.value
        failed = set[int]()
        for part, result in self.batch.run_adaptive(pairs, score, self._cache.clear):
            positions = np.array([p for *_, p in pairs[part]])
            if not isinstance(result, Failure):
                yield ScoreChunk(positions, result[0], details=result[1])
            elif len(group) == 1:
                text = pairs[part.start][2]
                name = group[0].name if result.error is None else f"{group[0].name} with {text!r}"
                yield ScoreChunk(positions, None, self._failure_reason(name, result))
            elif result.error is None:
                self.batch.value, self.image_batch.value = size, len(group) // 2
                unfit = {p for *_, p in pairs[part.start :]}
                return pending_at(unfit), pending_at(failed)
            else:
                failed |= {*positions.tolist()}
        return [], pending_at(failed)


def _room(device: torch.device) -> int:
    """Return how many tokens of images are prefilled together on a device."""
    return 1024 if device.type == "cpu" else 16384
