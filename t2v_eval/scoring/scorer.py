"""The base class of scorers: one `forward(images, texts) -> M x N` for all models and services.

`Scorer.run` plans the work, looks scores up in the store, and commits what `score_cells` yields;
`score_cells` is the only polymorphic call. The package `local` implements it for models that run
on this machine, the package `remote` for services.
"""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, Self, TypeVar

import torch
from PIL import Image
from torch import Tensor

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VWarning, UnknownNameError, UnsupportedError
from t2v_eval.inputs.fast_jpeg import Resizing, check_fast
from t2v_eval.inputs.media import Media, MediaLike, as_list, check_texts, decode, open_list
from t2v_eval.inputs.template import Template, get_template, templates
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.registry import models
from t2v_eval.scoring.call_options import FRAMES, bind_call
from t2v_eval.scoring.cautions import TruncatedTexts, other_sizes
from t2v_eval.scoring.execution import Execution
from t2v_eval.scoring.generation import Explanation
from t2v_eval.scoring.identity import check_versioned, encoder_id
from t2v_eval.scoring.object import PythonObject
from t2v_eval.scoring.plan import Block, Cells, Plan, Text, blocks_of
from t2v_eval.scoring.progress import reporting
from t2v_eval.scoring.results import (
    Progress,
    RankedImage,
    ScoreChunk,
    ScoringResult,
    of_all_cells,
    ranking,
)
from t2v_eval.store import Store
from t2v_eval.utils.arguments import check_choice, unknown_argument
from t2v_eval.utils.torch_internals import inference

SEMANTICS = 1  # raise when our own code changes any number, so that stored scores are not reused

ImageMode = Literal["seen", "original", "fast"]
OnError = Literal["raise", "skip"]
_T = TypeVar("_T")


class Scorer(PythonObject, ABC):
    """Score how well images match texts; higher is better.

    A class outside this library that keeps scores in a store must say when its numbers change: by a
    `version`, which it raises with every change of its formula, or by an `identity` that names all
    that its numbers depend on.

    Args:
        card: its entry in the registry.
        store: a path or `Store` that keeps every score; None for no store.
        image_mode: "seen" scores what a person sees (EXIF orientation, alpha over white, 16 bits
            scaled); "original" does what the original implementation does with such files; "fast"
            is "seen" with large JPEG files decoded and resized on a faster path (`resizing`).
        on_error: "raise", or "skip": the score of an image that fails is NaN, and is counted.
        allow_urls: whether images may be URLs, which are downloaded from public addresses only;
            "private" allows those of this machine and its networks too, "any" also s3:// and alike.
        question_template, answer_template, template: the templates of every call; see `Template`.

    >>> import numpy as np
    >>> class Brightness(Scorer):
    ...     version = "1"
    ...
    ...     def score_cells(self, images, texts, cells):
    ...         for position, (i, _) in enumerate(cells.tolist()):
    ...             mean = float(np.mean(self.load_image(images[i])))
    ...             yield ScoreChunk(np.array([position]), torch.tensor([mean]))
    >>> Brightness()(Image.new("RGB", (4, 4), (10, 20, 30)), ["a cat", "a dog"])
    tensor([[20., 20.]])
    """

    default_template: ClassVar[str] = "plain"
    uses_references: ClassVar[bool] = False
    uses_text: ClassVar[bool] = True  # if False, texts may be left out
    caption_keys: ClassVar[tuple[str, ...]] = ()  # names of scores without and with references
    version: ClassVar[str | int] = ""  # of the formula, for classes outside this library
    image_roles: tuple[str, ...] = ()  # of images that are one input, such as `EDIT`

    def __init__(
        self,
        *,
        card: ModelCard | None = None,
        store: str | Path | Store | None = None,
        image_mode: ImageMode = "seen",
        on_error: OnError = "raise",
        allow_urls: AllowUrls = False,
        question_template: str | None = None,
        answer_template: str | None = None,
        template: str | None = None,
    ) -> None:
        check_choice("image_mode", image_mode, ("seen", "original", "fast"))
        check_choice("on_error", on_error, ("raise", "skip"))
        if not (isinstance(allow_urls, bool) or allow_urls in ("private", "any")):
            raise InputError(f"`allow_urls={allow_urls!r}`; use True, False, 'private' or 'any'")
        self.card = card or ModelCard(
            type(self).__name__, type(self).__name__, type(self).__module__
        )
        if image_mode == "fast":
            check_fast(self.name, type(self).resizing is not Scorer.resizing)
        self.store = store
        self.image_mode: ImageMode = image_mode
        self.on_error: OnError = on_error
        self.allow_urls: AllowUrls = allow_urls
        self.template = self.named_template(template or self.default_template)
        self.template = self.template.override(question_template, answer_template)
        self._lock = threading.RLock()
        self._copies = weakref.WeakSet[Any]([self])  # all that share the weights
        self._truncated: set[str] = set()
        # Shared by copies of `with_template`: warn once per loaded scorer.
        self._size_warning_pending = threading.Semaphore(1)

    def to(self, device: Any) -> Self:
        """Move the model to another device; see `LocalScorer.to`.

        Raises:
            UnsupportedError: the model does not run here.
        """
        raise UnsupportedError(
            f"{self.name!r} has no model on this machine that could be moved to {str(device)!r}"
        )

    @property
    def store(self) -> Store | None:
        """The store of its scores; a path that is assigned is opened.

        Raises:
            InputError: a class outside this library does not say when its numbers change.
        """
        return self._store

    @store.setter
    def store(self, store: str | Path | Store | None) -> None:
        if store is not None:
            self.check_versioned()
        self._store = store if store is None or isinstance(store, Store) else Store(store)

    def check_versioned(self) -> None:
        """Check that the scorer's id changes with its formula, so that a store is safe.

        Raises:
            InputError: a class outside this library does not say when its numbers change.
        """
        check_versioned(self)

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.card.name

    def identity(self) -> dict[str, str]:
        """Return what decides the numbers besides the template; subclasses extend it."""
        return {"images": self.image_mode, "semantics": str(SEMANTICS)}

    @property
    def encoder_id(self) -> str:
        """The part of `id` that decides embeddings: everything but the template."""
        return encoder_id(self)

    @property
    def id(self) -> str:
        """Same id, same numbers: name, weights, precision, image mode, semantics and template."""
        return (
            f"{self.encoder_id} question={self.template.question!r} answer={self.template.answer!r}"
        )

    @property
    def model(self) -> Self:
        """The scorer itself; scripts written for t2v_metrics reach `generate` through it."""
        return self

    def with_template(
        self,
        question_template: str | None = None,
        answer_template: str | None = None,
        template: str | None = None,
    ) -> Self:
        """Return a copy with another question or answer, which shares the weights.

        Raises:
            TemplateError, UnknownNameError: a template that cannot be filled or is not there.
        """
        bound = copy.copy(self)
        self._copies.add(bound)
        bound.template = (self.named_template(template) if template else self.template).override(
            question_template, answer_template
        )
        return bound

    def named_template(self, name: str) -> Template:
        """Return the template of a name, or the one that the scorer's card has under it.

        Raises:
            UnknownNameError: no template has this name, or other scorers alone do.
        """
        questions = self.card.questions
        if name not in questions and name not in templates() and name in models.conventions():
            names = " and ".join(questions)
            available = f"it has {names}" if questions else "its card names no such template"
            raise UnknownNameError(
                f"there is no template {name!r} of {self.name!r}, which has no such question: "
                f"{available}. `t2v-eval list templates` lists those of any scorer."
            )
        return get_template(questions.get(name, name))

    def forward(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str] | None = None,
        references: Sequence[Sequence[str]] | None = None,
        progress: Progress | bool | None = None,
        **options: Any,
    ) -> Tensor:
        """Score every image against every text.

        Args:
            images: M images or videos, or one; see `open_media` for what counts as one.
            texts: N texts, or one; may be left out where the scorer does not use them.
            references: for scorers that use them, M lists of human captions.
            progress: called with the counts as they grow; or whether to show a bar, by default
                where a call takes a few seconds in a terminal or a notebook.
            options: `question_template`, `answer_template` or `template` for this call; `fps` or
                `num_frames` of a video where the scorer reads several (see `FrameReader`).

        Returns:
            (M, N) float32 tensor on the CPU; with ``on_error="skip"``, NaN where a cell failed.

        Raises:
            InputError: wrong types, empty lists, or an image that cannot be used (`MediaError`).
        """
        block = Block.of(images, self.texts_or_empty(texts), references)
        return self.with_call_options(options).run([block], progress)[0]

    __call__ = forward

    def texts_or_empty(self, texts: str | Iterable[str] | None) -> str | Iterable[str]:
        """Return the texts, or the empty text for None if the scorer uses no texts.

        Raises:
            InputError: the scorer uses texts and got no text.
        """
        if texts is None and self.uses_text:
            raise InputError(f"{self.name!r} scores images against texts: pass texts too")
        return "" if texts is None else texts

    def score_tensor(
        self, pixels: Tensor, texts: str | Iterable[str] | None = None, **template: str | None
    ) -> Tensor:
        """Score pixels in a tensor with gradients; see `differentiable.Differentiable`.

        Raises:
            UnsupportedError: the model does not run here.
        """
        raise UnsupportedError(f"{self.name!r} does not run here, so it has no gradients")

    def generate(
        self,
        images: MediaLike | Iterable[MediaLike],
        prompts: str | Iterable[str] | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        max_new_tokens: int = 256,
        **others: Any,
    ) -> list[str | None]:
        """Generate the model's answer to a prompt about each image, decoded greedily.

        Args:
            images: B images.
            prompts: B prompts, or one for all.
            texts: the same under its name in t2v_metrics.
            max_new_tokens: where an answer ends at the latest.
            others: `fps` or `num_frames` as in a call; others are refused, those of t2v_metrics
                with what stands for them here.

        Returns:
            B generated texts. With ``on_error="skip"``, a scorer behind an API has None in place of
            each text that failed, and warns once of their number and the first reason.

        Raises:
            UnsupportedError: this scorer generates no text.
            InputError: the numbers of images and prompts differ; another argument.
            ScoringError: a text failed, with ``on_error="raise"``; the message names image and
                prompt.
        """
        bound = self.with_call_options({k: others.pop(k) for k in FRAMES if k in others})
        if others:
            supported = ("images", "prompts", "texts", "max_new_tokens", *FRAMES)
            raise InputError(unknown_argument(f"generate of {self.name!r}", min(others), supported))
        sources = as_list(images)
        questions = check_texts(texts if prompts is None else prompts, "prompts")  # type: ignore[arg-type]
        questions = questions * len(sources) if len(questions) == 1 else questions
        if len(questions) != len(sources):
            raise InputError(
                f"generate got {len(sources)} images and {len(questions)} prompts; pass one prompt "
                "for each image, or one for all"
            )
        media = open_list(sources, self.allow_urls, skip_errors=self.on_error == "skip")
        with bound.exclusive_call(len(questions)), inference():
            return [*bound.generate_texts(media, questions, max_new_tokens)]

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> Sequence[str | None]:
        """Generate an answer to each prompt about its image; scorers that generate override it."""
        raise UnsupportedError(
            f"{self.name!r} cannot generate text; scorers of kind 'vqa' can "
            "(`t2v-eval list models --kind vqa`)"
        )

    def explain(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        top: int = 5,
        **options: Any,
    ) -> list[list[Explanation]]:
        """Explain every score of a call with these arguments by the tokens of its answer.

        Args:
            images: M images.
            texts: N texts.
            top: number of alternatives to each token of the answer.
            options: `question_template`, `answer_template` or `template` for this call; `fps` or
                `num_frames` of a video where the scorer reads several (see `FrameReader`).

        Returns:
            M lists of N explanations.

        Raises:
            UnsupportedError: this scorer does not score by the probability of an answer.
        """
        block, bound = Block.of(images, texts), self.with_call_options(options)
        media = open_list(block.images, self.allow_urls)
        with self._lock, inference():
            return bound.map_one_by_one(
                media, lambda image: bound.explain_image(image, block.texts, top)
            )

    def forward_with_trace(self, *arguments: object, **options: object) -> NoReturn:
        """Say what this method of t2v_metrics is called here.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{self.name!r} has no forward_with_trace: scorer(images, texts) returns the scores, "
            "and `scorer.explain(images, texts)` the tokens behind them, with their probabilities"
        )

    def map_one_by_one(self, media: Sequence[Media], work: Callable[[Media], _T]) -> list[_T]:
        """Apply `work` to each image.

        Raises:
            ScoringError: an image does not fit into the memory, of a model that runs here.
        """
        return [work(image) for image in media]

    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        """Explain the scores of an image with N texts; scorers that answer override it."""
        raise UnsupportedError(
            f"{self.name!r} cannot explain a score by the tokens of an answer; scorers of kind "
            "'vqa' that run here can"
        )

    def rank(
        self,
        images: MediaLike | Iterable[MediaLike],
        text: str | None = None,
        references: Sequence[Sequence[str]] | None = None,
        **options: Any,
    ) -> list[RankedImage]:
        """Rank images from best to worst for one text, for example to choose the best of K.

        Args:
            images: K images or videos.
            text: one text.
            references: for scorers that use them, K lists of human captions.
            options: templates and frames of this call, as for `forward`.

        Returns:
            K `RankedImage`: equal scores share a rank; failed images come last and have none.
        """
        if text is not None and not isinstance(text, str):
            raise InputError(f"rank takes one text, not {type(text).__name__}")
        bound = self.with_call_options(options)
        return ranking(bound.forward(images, text, references)[:, 0].tolist())

    def score_pairs(
        self,
        images: Iterable[MediaLike],
        texts: Iterable[str],
        references: Sequence[Sequence[str]] | None = None,
        progress: Progress | bool | None = None,
        **options: Any,
    ) -> Tensor:
        """Score aligned lists: image b with text b; `progress` as for `forward`.

        Returns:
            (B,) float32 tensor on the CPU.
        """
        listed, captions = as_list(images), check_texts(texts)
        if len(listed) != len(captions):
            raise InputError(
                f"score_pairs got {len(listed)} images and {len(captions)} texts; pass as many of "
                "each, or call the scorer itself for all combinations"
            )
        rows: Sequence[Sequence[str] | None] = references or [None] * len(listed)
        blocks = [
            Block.of([image], [text], None if refs is None else [refs])
            for image, text, refs in zip(listed, captions, rows, strict=True)
        ]
        bound = self.with_call_options(options)
        return torch.stack([s[0, 0] for s in bound.run(blocks, progress)])

    def batch_forward(
        self,
        dataset: Iterable[Mapping[str, Any]],
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
        **options: Any,
    ) -> Tensor | list[Tensor]:
        """Score a data set of ``{"images": [...], "texts": [...]}`` samples, as t2v_metrics does.

        Contents shared by samples are computed once, and batches span samples. `progress` is as for
        `forward`.

        Returns:
            (S, M, N) float32 tensor; where samples differ in shape, a list of S tensors (M, N).
        """
        bound = self.with_call_options(options)
        bound.start_batches_at(batch_size)
        scores = bound.run(blocks_of(dataset), progress)
        return torch.stack(scores) if len({s.shape for s in scores}) == 1 else scores

    def start_batches_at(self, size: int | None) -> None:
        """Set the first batch size that is tried; a scorer without batches ignores it."""

    def run(self, blocks: Sequence[Block], progress: Progress | bool | None = None) -> list[Tensor]:
        """Score blocks together; return one (M, N) float32 CPU tensor for each `Block`."""
        return [torch.from_numpy(s) for s in self.evaluate_blocks(blocks, progress).scores]

    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        """Score as `run` does; also return counts, reasons of failures and truncated texts.

        Args:
            blocks: what to score.
            progress: as for `forward`.

        Raises:
            InputError: references are missing, or an image cannot be opened (`MediaError`).
            ScoringError: a cell failed, with `on_error="raise"`.
        """
        if self.uses_references:
            for index, block in enumerate(blocks):
                if block.references is None:
                    raise InputError(f"{self.name!r} needs references; item {index} has none")
        else:
            blocks = [replace(block, references=None) for block in blocks]
        if not self.uses_text:
            blocks = [replace(block, texts=[""] * len(block.texts)) for block in blocks]
        self.check_template()
        plan = Plan.of(blocks, skip_errors=self.on_error == "skip", allow_urls=self.allow_urls)
        plan.check_roles(self.name, self.image_roles)
        with self._lock, inference(), reporting(progress, self.name) as report:
            return self._execute(plan, report)

    def check_template(self) -> None:
        """Warn if the template ignores the text though the scorer would use it."""
        if self.uses_text and not self.template.uses_text:
            warnings.warn(
                f"neither the question {self.template.question!r} nor the answer "
                f"{self.template.answer!r} has a placeholder: the texts play no part in the scores",
                T2VWarning,
                stacklevel=3,
            )

    def _execute(self, plan: Plan, progress: Progress) -> ScoringResult:
        execution = Execution(
            plan,
            self.store,
            "" if self.store is None else self.id,
            self.name,
            skip_errors=self.on_error == "skip",
            progress=progress,
        )
        self._truncated.clear()
        truncated = TruncatedTexts(plan, self._truncated, lambda text: self.template.fill(text)[0])
        cautions = self._size_cautions(plan.images)
        todo = execution.missing()
        if len(todo):
            chunks = self.score_cells(plan.images, plan.texts, plan.cells[todo])
            for chunk in of_all_cells(chunks, len(todo)):
                cells = todo[chunk.positions]
                execution.add(truncated.annotate(chunk, cells), cells)
        collected = truncated.collect(execution.details)
        self._truncated.clear()
        self._truncated.update(collected)
        cautions += self._warn_truncated(len(truncated.all_strings()))
        return execution.result(len(self._truncated), cautions)

    def _size_cautions(self, images: Sequence[Media]) -> list[str]:
        """Return cautions about image sizes, and warn of them once."""
        if not self.card.expects_size:
            return []
        expected, caution = self.card.expects_size, self.card.caution
        cautions = other_sizes(images, expected, self.image_mode, caution)
        for caution in cautions:
            if self._size_warning_pending.acquire(blocking=False):
                warnings.warn(caution, T2VWarning, stacklevel=4)
        return cautions

    def reset_size_warning(self) -> None:
        """Warn of image sizes again, although a copy of this scorer has done so."""
        self._size_warning_pending = threading.Semaphore(1)

    @abstractmethod
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        """Score (image, text) cells, sorted by image; yield each chunk when it is finished."""

    def resizing(self) -> Resizing | None:
        """Return how every image is resized first of all, for `image_mode="fast"`."""
        return None

    def load_image(self, media: Media) -> Image.Image:
        """Decode an image in the scorer's image mode; runs in a decoding thread.

        Raises:
            MediaError: it cannot be decoded.
        """
        resizing = self.resizing() if self.image_mode == "fast" else None
        image = decode(media, self.image_mode, resizing)
        self.warn_of_size(media.name, image.size)
        return image

    def warn_of_size(self, what: str, size: tuple[int, int]) -> None:
        """Warn once of an image whose width and height differ from those its card expects."""
        expected = self.card.expects_size
        if expected and size != expected and self._size_warning_pending.acquire(blocking=False):
            warnings.warn(f"{what}: {self.card.caution}", T2VWarning, stacklevel=3)

    def note_truncated(self, texts: Iterable[str]) -> None:
        """Record texts that the backend truncated; the run reports their number once."""
        self._truncated.update(texts)

    def take_truncated(self) -> set[str]:
        """Return the texts that were recorded since the last call."""
        warned = set(self._truncated)
        self._truncated.clear()
        return warned

    @contextmanager
    def exclusive_call(self, total: int) -> Iterator[None]:
        """Hold the scorer for one call, and warn at its end of texts that were truncated.

        Args:
            total: number of texts of the call.
        """
        with self._lock:
            self._truncated.clear()
            yield
            self._warn_truncated(total)

    def _warn_truncated(self, total: int) -> list[str]:
        """Warn of truncated texts, if any; return the warning as a list of cautions."""
        if not self._truncated:
            return []
        caution = (
            f"{len(self._truncated)} of {total} texts are longer than the model reads and were "
            f"cut, for example {min(self._truncated)[:60]!r}..."
        )
        warnings.warn(f"{self.name!r}: {caution}", T2VWarning, stacklevel=2)
        return [caution]

    def with_call_options(self, options: Mapping[str, Any]) -> Self:
        """Return a copy with the templates and the frames of a call; see `call_options`.

        Raises:
            InputError: another keyword argument, or frames that the scorer cannot read.
        """
        return bind_call(self, options)
