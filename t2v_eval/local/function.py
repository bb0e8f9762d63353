"""A scorer from a function of one's own, without a class."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.inputs.media import Media
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.batching import Failure
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk

ScoringFunction: TypeAlias = Callable[[list[Image.Image], list[str]], Any]


class FunctionScorer(LocalScorer):
    """A scorer that calls a function; see `from_function`.

    Args:
        function: called as ``function(images, texts)``.
        name: the name in reports.
        version: what changes with every change of what the function computes.
        pairs: whether the function scores aligned lists instead of all combinations.
        options: as for `LocalScorer`; `batch_size` is the number of images of a call.

    >>> scorer = FunctionScorer(lambda images, texts: [[len(t) for t in texts] for _ in images])
    >>> scorer(Image.new("RGB", (4, 4)), ["a cat", "a bird"])
    tensor([[5., 6.]])
    """

    sharing_mode = "a function"

    def __init__(
        self,
        function: ScoringFunction,
        *,
        name: str | None = None,
        version: str | int | float | None = None,
        pairs: bool = False,
        card: ModelCard | None = None,
        **options: Any,
    ) -> None:
        if not callable(function):
            kind = type(function).__name__
            raise InputError(f"from_function takes a function of images and texts, not {kind}")
        if version is not None and (isinstance(version, bool) or not str(version).strip()):
            raise InputError(f'`version={version!r}`: use a text or a number, such as "1"')
        self.function = function
        self.function_version = None if version is None else str(version)
        self.pairs = pairs
        label = name or str(getattr(function, "__name__", type(function).__name__))
        card = card or ModelCard(label, label, getattr(function, "__module__", "") or "")
        super().__init__(card=card, **options)

    @override
    def check_versioned(self) -> None:
        if self.function_version is None:
            raise InputError(
                f"{self.name!r} has a store but no version, so after an edit of the function, its "
                "helpers or its arguments the store would return old scores. Pass "
                '`version="1"`, and raise it with each change of what it '
                "computes; or use no store (`store=None`)"
            )

    @override
    def identity(self) -> dict[str, str]:
        version = self.function_version
        facts = (
            {"version": version} if version is not None else {"source": source_hash(self.function)}
        )
        shared = super().identity()
        return {**facts, "images": shared["images"], "semantics": shared["semantics"]}

    @override
    def preprocess(self, image: Image.Image) -> Image.Image:
        return image

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rows, starts = np.unique(cells[:, 0], return_index=True)
        spans = np.split(np.arange(len(cells)), starts[1:])
        media = [images[i] for i in rows]
        for decoded, failed in self._encode_in_batches(media, list):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            for group in _same_texts(list(decoded), [cells[span, 1].tolist() for span in spans]):
                words = [caption_text(texts[t]) for t in cells[spans[group[0]], 1]]
                call = functools.partial(self._call, decoded, words)
                for part, values in self.image_batch.run_adaptive(group, call):
                    for k, n in enumerate(group[part]):
                        if isinstance(values, Failure):
                            reason = self._failure_reason(media[n].name, values)
                            yield ScoreChunk(spans[n], None, reason)
                        else:
                            yield ScoreChunk(spans[n], values[k])

    def write_about(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        """Return what a function that reads images returns for each, a text; all are whole.

        The function is called with images and as many prompts, and returns as many texts.

        Raises:
            ScoringError: it returns something else, or fails.
        """
        pairs = list(zip(images, prompts, strict=True))
        return self._generate_in_batches(self.image_batch, pairs, self._call_for_texts)

    def _call_for_texts(self, pairs: Sequence[tuple[Media, str]]) -> list[tuple[str, bool]]:
        decoded = [self.prepare(media) for media, _ in pairs]
        texts = self.function(decoded, [prompt for _, prompt in pairs])
        if (
            not isinstance(texts, Sequence)
            or len(texts) != len(pairs)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ScoringError(
                f"{self.name!r} returned {type(texts).__name__} for {len(pairs)} images: a "
                "function that reads returns a list of as many texts"
            )
        return [(text, True) for text in texts]

    def _call(
        self, decoded: dict[int, Image.Image], texts: list[str], group: Sequence[int]
    ) -> Tensor:
        """Call the function with the images of a group; return (M, N) float32 scores."""
        images = [decoded[n] for n in group]
        filled = [" ".join(filter(None, self.template.fill(text))) for text in texts]
        shape: tuple[int, ...] = (len(images), len(texts))
        if self.pairs:
            result = self.function([image for image in images for _ in texts], filled * len(images))
            shape = (len(images) * len(texts),)
        else:
            result = self.function(images, filled)
        scores = _as_tensor(result, self.name)
        if scores.shape != shape:
            expected = f"{shape[0]} scores" if self.pairs else f"{shape[0]} x {shape[1]} scores"
            raise InputError(
                f"{self.name!r} returned shape {tuple(scores.shape)} for {len(images)} images and "
                f"{len(texts)} texts: return {expected}"
                + (
                    ""
                    if self.pairs
                    else ", or pass pairs=True (--option pairs=true) for one score per pair"
                )
            )
        return scores.reshape(len(images), len(texts))


def from_function(
    function: ScoringFunction,
    name: str | None = None,
    version: str | int | float | None = None,
    *,
    pairs: bool = False,
    **options: Any,
) -> FunctionScorer:
    """Make a scorer of a function.

    Args:
        function: called as ``function(images, texts)`` with M PIL images and N texts; returns M x N
            scores (nested lists, an array or a tensor), higher is better. NaN is a failure.
        name: the name in reports; by default that of the function.
        version: a text or number that you change with every change of what the function computes.
            A store needs one: a hash of the source would not see helpers, arguments or attributes.
        pairs: whether the function gets P images and P texts and returns P scores.
        options: as for `load`: `store`, `on_error`, `image_mode`; `batch_size` is the number of
            images of a call.

    Returns:
        A scorer for `compare`, `evaluate` and everything else that takes one.

    Raises:
        InputError: `function` cannot be called, or there is a store and no version.

    >>> def brightness(images, texts):
    ...     means = [np.asarray(image.convert("L")).mean() / 255 for image in images]
    ...     return [[mean] * len(texts) for mean in means]
    >>> scorer = from_function(brightness, version="1")
    >>> scorer([Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8))], "a lamp")
    tensor([[1.],
            [0.]])
    """
    return FunctionScorer(function, name=name, version=version, pairs=pairs, **options)


def _same_texts(numbers: Sequence[int], texts: Sequence[list[int]]) -> Iterator[list[int]]:
    """Yield runs of consecutive images that are scored with the same texts."""
    group: list[int] = []
    for n in numbers:
        if group and texts[n] != texts[group[0]]:
            yield group
            group = []
        group.append(n)
    if group:
        yield group


def _as_tensor(result: Any, name: str) -> Tensor:
    if isinstance(result, Tensor):
        return result.detach().float().cpu()
    try:
        return torch.from_numpy(np.asarray(result, np.float32))
    except (TypeError, ValueError) as error:
        raise ScoringError(
            f"{name!r} returned {type(result).__name__}, which is no matrix of numbers"
        ) from error


def source_hash(function: Callable[..., Any]) -> str:
    """Return a hash of a function's source, or of its bytecode where there is no source.

    >>> source_hash(source_hash) == source_hash(from_function)
    False
    """
    try:
        content = inspect.getsource(function)
    except (OSError, TypeError):
        code: CodeType | None = getattr(function, "__code__", None)
        content = repr((code.co_code, code.co_consts)) if code else repr(type(function))
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()[:16]
