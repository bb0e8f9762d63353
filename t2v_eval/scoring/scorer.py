"""Scorers: one `forward(images, texts) -> M x N` over everything that can score a picture.

`Scorer.run` plans the work, looks into the store, and commits what `score_cells` yields;
`score_cells` is the only polymorphic call. `t2v_eval.local.base` implements it for models that run
here.
"""

from __future__ import annotations

import copy
import threading
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from t2v_eval.errors import InputError, ScoringError, T2VWarning, UnknownNameError, UnsupportedError
from t2v_eval.inputs.media import Media, MediaLike, as_list, check_texts, decode
from t2v_eval.inputs.template import Template, get_template, templates
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.registry import Card, models
from t2v_eval.scoring.cautions import TruncatedTexts, other_sizes, strings_of
from t2v_eval.scoring.generation import GenerationMixin
from t2v_eval.scoring.plan import Block, Caption, Cells, Plan, Text, blocks_of
from t2v_eval.scoring.results import (
    Counts,
    Progress,
    RankedImage,
    ScoreChunk,
    ScoringResult,
    ranking,
    split_non_finite,
)
from t2v_eval.store import Store, text_key

SEMANTICS = 1  # raise when our own code changes any number, so that stored scores are not reused

ImageMode = Literal["seen", "original"]
OnError = Literal["raise", "skip"]


class Scorer(GenerationMixin):
    """Scores how well pictures match texts; higher is better.

    A class outside this library that keeps scores in a store says when its numbers change: it has
    a `version` of its own, raised with every change of its formula, or an `identity` of its own
    that names all that its numbers depend on.

    Args:
        card: the registry's facts about it.
        store: a path or `Store` that keeps every score; None keeps nothing between calls.
        image_mode: "seen" scores what a person sees (orientation, alpha over white, 16 bits
            scaled); "original" does what the original implementation does with such files.
        on_error: "raise", or "skip": a picture that cannot be scored is NaN and is counted.
        allow_urls: whether images may be URLs, which the scorer then downloads from public
            addresses; "private" also from this machine and its networks.
        question_template, answer_template, template: the templates of every call; see `Template`.
    """

    default_template: ClassVar[str] = "plain"
    uses_references: ClassVar[bool] = False
    uses_text: ClassVar[bool] = True  # whether texts play any part; they may be left out if not
    caption_keys: ClassVar[tuple[str, ...]] = ()  # without references, and with; else the name
    version: ClassVar[str | int] = ""  # of the formula of a class outside this library

    def __init__(
        self,
        *,
        card: Card | None = None,
        store: str | Path | Store | None = None,
        image_mode: ImageMode = "seen",
        on_error: OnError = "raise",
        allow_urls: AllowUrls = False,
        question_template: str | None = None,
        answer_template: str | None = None,
        template: str | None = None,
    ) -> None:
        _check_choice("image_mode", image_mode, ("seen", "original"))
        _check_choice("on_error", on_error, ("raise", "skip"))
        if not (isinstance(allow_urls, bool) or allow_urls == "private"):
            raise InputError(f"allow_urls={allow_urls!r}; use True, False or 'private'")
        self.card = card or Card(type(self).__name__, type(self).__name__, type(self).__module__)
        self.store = store
        self.image_mode: ImageMode = image_mode
        self.on_error: OnError = on_error
        self.allow_urls: AllowUrls = allow_urls
        self.template = self.named_template(template or self.default_template)
        self.template = self.template.override(question_template, answer_template)
        self._lock = threading.RLock()
        self._truncated: set[str] = set()
        self._size_warning_pending = threading.Semaphore(
            1
        )  # shared by copies; whoever takes it warns

    @property
    def store(self) -> Store | None:
        """What keeps its scores; a path that is set is opened.

        Raises:
            InputError: a class outside this library does not say when its numbers change.
        """
        return self._store

    @store.setter
    def store(self, store: str | Path | Store | None) -> None:
        own = vars(type(self))
        said = "identity" in own or own.get("version") or _is_ours(type(self))
        if store is not None and not said:
            # No hash of its source tells: helpers, arguments and attributes are not in it.
            raise InputError(
                f"{self.name!r} is to keep its scores, but its class {type(self).__qualname__} "
                "does not say when its numbers change, so scores of an older formula would be "
                'given out. Write `version = "1"` in the class, another one with each change of '
                "what it computes, or an `identity` that names all that its numbers depend on; or "
                "keep no scores (store=None, --no-store)"
            )
        self._store = Store(store) if isinstance(store, (str, Path)) else store

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.card.name

    def identity(self) -> dict[str, str]:
        """What decides the numbers besides the template; subclasses add what they depend on."""
        return {"images": self.image_mode, "semantics": str(SEMANTICS)}

    @property
    def encoder_id(self) -> str:
        """The part of `id` that decides embeddings: everything but the template."""
        facts = [f"{k}={v}" for k, v in self.identity().items()]
        return " ".join([self.name, *facts, *_versions(type(self))])

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
        """The same scorer, sharing its weights, with another question or answer.

        Raises:
            TemplateError, UnknownNameError: a template that cannot be filled or is not there.
        """
        bound = copy.copy(self)
        bound.template = (self.named_template(template) if template else self.template).override(
            question_template, answer_template
        )
        return bound

    def named_template(self, name: str) -> Template:
        """The template called so, or the one that the scorer's card has under this name.

        Raises:
            UnknownNameError: there is none, or this scorer has none under a name that others have.
        """
        own = self.card.questions
        if name not in own and name not in templates() and name in models.conventions():
            known = f"it has {' and '.join(own)}" if own else "its card names no such template"
            raise UnknownNameError(
                f"there is no template {name!r} of {self.name!r}, which was not asked there: "
                f"{known}. `t2v-eval list templates` lists those of any scorer."
            )
        return get_template(own.get(name, name))

    def forward(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str] | None = None,
        references: Sequence[Sequence[str]] | None = None,
        **template: str | None,
    ) -> Tensor:
        """Score every picture against every text.

        Args:
            images: M pictures or videos, or one; see `open_media` for what counts as one.
            texts: N texts, or one; may be left out where the scorer does not use them.
            references: for scorers that use them, M lists of human captions.
            template: `question_template`, `answer_template` or `template` for this call.

        Returns:
            (M, N) float32 tensor on the CPU; with ``on_error="skip"``, NaN where a cell failed.

        Raises:
            InputError: wrong types, empty lists, or a picture that cannot be used (`MediaError`).
        """
        block = Block.of(images, self._texts_or_empty(texts), references)
        return self._with_call_templates(template).run([block])[0]

    __call__ = forward

    def _texts_or_empty(self, texts: str | Iterable[str] | None) -> str | Iterable[str]:
        """Texts as given; the empty text for None, where they play no part."""
        if texts is None and self.uses_text:
            raise InputError(f"{self.name!r} scores pictures against texts: pass texts too")
        return "" if texts is None else texts

    def score_tensor(
        self, pixels: Tensor, texts: str | Iterable[str] | None = None, **template: str | None
    ) -> Tensor:
        """Score pixels in a tensor with gradients; see `differentiable.Differentiable`.

        Raises:
            UnsupportedError: the model does not run here.
        """
        raise UnsupportedError(f"{self.name!r} does not run here, so it has no gradients")

    def rank(
        self,
        images: MediaLike | Iterable[MediaLike],
        text: str | None = None,
        references: Sequence[Sequence[str]] | None = None,
        **template: str | None,
    ) -> list[RankedImage]:
        """The pictures from best to worst for one text, for example to choose the best of K.

        Args: as for a call, with one text.

        Returns:
            K `RankedImage`: equal scores share a rank; failed images come last and have none.
        """
        if text is not None and not isinstance(text, str):
            raise InputError(f"rank takes one text, not {type(text).__name__}")
        return ranking(self.forward(images, text, references, **template)[:, 0].tolist())

    def score_pairs(
        self,
        images: Iterable[MediaLike],
        texts: Iterable[str],
        references: Sequence[Sequence[str]] | None = None,
        **template: str | None,
    ) -> Tensor:
        """Score aligned lists: picture b with text b.

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
        return torch.stack([s[0, 0] for s in self._with_call_templates(template).run(blocks)])

    def batch_forward(
        self,
        dataset: Iterable[Mapping[str, Any]],
        batch_size: int | None = None,
        **template: str | None,
    ) -> Tensor | list[Tensor]:
        """Score a data set of ``{"images": [...], "texts": [...]}`` samples, as t2v_metrics does.

        Contents shared by samples are computed once, and batches span samples.

        Returns:
            (S, M, N) float32 tensor; where samples differ in shape, a list of S tensors (M, N).
        """
        bound = self._with_call_templates(template)
        bound.start_batches_at(batch_size)
        scores = bound.run(blocks_of(dataset))
        return torch.stack(scores) if len({s.shape for s in scores}) == 1 else scores

    def start_batches_at(self, size: int | None) -> None:
        """Where the search for a batch size starts; nothing to do where there are no batches."""

    def run(self, blocks: Sequence[Block], progress: Progress | None = None) -> list[Tensor]:
        """Score blocks together; see `Block`. One (M, N) float32 CPU tensor for each."""
        return [torch.from_numpy(s) for s in self.evaluate_blocks(blocks, progress).scores]

    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | None = None
    ) -> ScoringResult:
        """As `run`, and tell how: counts, reasons of failures, how many texts were cut."""
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
        with self._lock, torch.inference_mode():
            return self._execute(plan, progress or (lambda _: None))

    def check_template(self) -> None:
        """Warn of a template in which the text plays no part, though the scorer would use it."""
        if self.uses_text and not self.template.uses_text:
            warnings.warn(
                f"neither the question {self.template.question!r} nor the answer "
                f"{self.template.answer!r} has a placeholder: the texts play no part in the scores",
                T2VWarning,
                stacklevel=3,
            )

    def _execute(self, plan: Plan, progress: Progress) -> ScoringResult:
        values = np.full(len(plan.cells), np.nan, np.float32)
        keys: list[tuple[str, str]] = []
        if self.store is not None:
            keys = [(plan.images[i].key, _key(plan.texts[j])) for i, j in plan.cells.tolist()]
            known = self.store.get_cells(self.id, keys)
            values[:] = [known.get(key, np.nan) for key in keys]
        todo = np.flatnonzero(np.isnan(values))
        counts = Counts(cells=len(values), reused=len(values) - len(todo))
        errors: dict[int, str] = {}
        details: dict[int, str] = {}
        if self.store is not None and counts.reused:
            said = self.store.get_details(self.id, known)
            details = {p: said[key] for p, key in enumerate(keys) if key in said}
        self._truncated.clear()
        truncated = TruncatedTexts(plan, self._truncated, lambda text: self.template.fill(text)[0])
        progress(counts)
        cautions = self._size_cautions(plan.images)
        if len(todo):
            parts = self.score_cells(plan.images, plan.texts, plan.cells[todo])
            for part in chain.from_iterable(map(split_non_finite, parts)):
                done = todo[part.positions]
                part = truncated.annotate(part, done)
                if part.values is not None:
                    values[done] = part.values.float().cpu().numpy()
                    counts = replace(counts, computed=counts.computed + len(done))
                else:
                    reason = part.error or ""
                    if self.on_error == "raise":
                        raise ScoringError(f"{self.name!r}: {reason}")
                    errors |= dict.fromkeys(done.tolist(), reason)
                    counts = replace(counts, failed=counts.failed + len(done))
                told = zip(done.tolist(), part.details or (), strict=False)
                details |= {p: detail for p, detail in told if detail is not None}
                self._commit(plan, keys, done, values, part)
                progress(counts)
        cut = truncated.found_in(details)
        self._truncated.clear()
        self._truncated.update(cut)
        cautions += self._warn_truncated(len(truncated.all_strings()))
        return ScoringResult(
            plan.fold(values),
            counts,
            Counter(errors.values()),
            plan.locate(errors),
            plan.locate(details),
            len(self._truncated),
            cautions,
        )

    def _size_cautions(self, images: Sequence[Media]) -> list[str]:
        """What is to be said of the sizes of pictures, which is warned of once."""
        if not self.card.expects_size:
            return []
        expected, caution = self.card.expects_size, self.card.caution
        cautions = other_sizes(images, expected, self.image_mode, caution)
        for caution in cautions:
            if self._size_warning_pending.acquire(blocking=False):
                warnings.warn(caution, T2VWarning, stacklevel=4)
        return cautions

    def reset_size_warning(self) -> None:
        """Warn again of what one of its copies has warned of."""
        self._size_warning_pending = threading.Semaphore(1)

    def _commit(
        self,
        plan: Plan,
        keys: list[tuple[str, str]],
        done: NDArray[np.int64],
        values: NDArray[np.float32],
        part: ScoreChunk,
    ) -> None:
        if self.store is None:
            return
        cells = plan.cells[done].tolist()
        self.store.put_cells(
            self.id,
            [
                (*keys[p], None if part.error else float(values[p]), part.error, detail)
                for p, detail in zip(done.tolist(), part.details or repeat(None), strict=False)
            ],
            {plan.images[i].key: plan.images[i].name for i, _ in cells},
            {_key(plan.texts[j]): caption_text(plan.texts[j]) for _, j in cells},
        )

    @abstractmethod
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        """Score (picture, text) cells, sorted by picture; yield each part as soon as it is done."""

    def load_image(self, media: Media) -> Image.Image:
        """Decode a picture in the scorer's image mode; runs in a decoding thread.

        Raises:
            MediaError: it cannot be decoded.
        """
        image = decode(media, self.image_mode)
        self._warn_of_size(media.name, image.size)
        return image

    def _warn_of_size(self, what: str, size: tuple[int, int]) -> None:
        """Warn once of a picture of another width and height than its card expects."""
        expected = self.card.expects_size
        if expected and size != expected and self._size_warning_pending.acquire(blocking=False):
            warnings.warn(f"{what}: {self.card.caution}", T2VWarning, stacklevel=3)

    def note_truncated(self, texts: Iterable[str]) -> None:
        """A backend tells which texts it cut; the run reports their number once."""
        self._truncated.update(texts)

    def _warn_truncated(self, total: int) -> list[str]:
        """Warn of texts that were cut, if any were; what is said of them."""
        if not self._truncated:
            return []
        caution = (
            f"{len(self._truncated)} of {total} texts are longer than the model reads and were "
            f"cut, for example {min(self._truncated)[:60]!r}..."
        )
        warnings.warn(f"{self.name!r}: {caution}", T2VWarning, stacklevel=2)
        return [caution]

    def _with_call_templates(self, template: Mapping[str, str | None]) -> Self:
        unknown = set(template) - {"question_template", "answer_template", "template"}
        if unknown:
            raise InputError(
                f"unknown argument {sorted(unknown)[0]!r}; a call takes images, texts, references, "
                "question_template, answer_template and template"
            )
        return self.with_template(**template)


def _is_ours(scorer: type) -> bool:
    return scorer.__module__.startswith("t2v_eval.")


def _versions(scorer: type) -> list[str]:
    """What classes outside this library say of their formulas, in one fact of an id."""
    named = [
        vars(of)["version"] for of in scorer.__mro__ if not _is_ours(of) and "version" in vars(of)
    ]
    return [f"version={'/'.join(map(str, named))}"] if named else []


def caption_text(text: Text) -> str:
    """The text itself, without its references."""
    return text.text if isinstance(text, Caption) else text


def _key(text: Text) -> str:
    return text_key("\0".join(strings_of(text)))


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{what}={value!r}; use {' or '.join(map(repr, choices))}")
