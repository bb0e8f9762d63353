"""What a model says besides a score: texts of its own, and how a score came about."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.media import Media, MediaLike, as_list, check_texts, open_list
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.scoring.plan import Block

_T = TypeVar("_T")
FEW = 4  # a token that stands more often in a row is shown once, with its number


@dataclass(frozen=True, slots=True)
class TokenProbability:
    """One token of an answer, its probability, and the likeliest tokens in its place."""

    token: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one score came about: the prompt as the model saw it, and each token of the answer."""

    score: float
    prompt: str
    tokens: tuple[TokenProbability, ...]

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt]
        for chance in self.tokens:
            others = ", ".join(f"{token!r} {p:.3f}" for token, p in chance.alternatives)
            lines.append(f"  {chance.token!r} {chance.probability:.4f}  ({others})")
        return "\n".join(lines)


class GenerationMixin(ABC):
    """The part of a scorer that generates and explains; see `Scorer` for what it is given."""

    allow_urls: AllowUrls
    _lock: threading.RLock
    _truncated: set[str]

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def _with_call_templates(self, template: Mapping[str, str | None]) -> Self: ...

    @abstractmethod
    def _warn_truncated(self, total: int) -> list[str]: ...

    def generate(
        self,
        images: MediaLike | Iterable[MediaLike],
        prompts: str | Iterable[str] | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        max_new_tokens: int = 256,
    ) -> list[str]:
        """The model's answer to a prompt about each picture, decoded greedily.

        Args:
            images: B pictures.
            prompts: B prompts, or one for all; `texts` is the same under its name in t2v_metrics.

        Returns:
            B generated texts.

        Raises:
            UnsupportedError: this scorer generates no text.
            InputError: numbers of images and prompts that do not go together.
        """
        listed = as_list(images)
        given = check_texts(texts if prompts is None else prompts, "prompts")  # type: ignore[arg-type]
        given = given * len(listed) if len(given) == 1 else given
        if len(given) != len(listed):
            raise InputError(
                f"generate got {len(listed)} images and {len(given)} prompts; pass one prompt for "
                "each image, or one for all"
            )
        media = open_list(listed, self.allow_urls)
        with self._lock, torch.inference_mode():
            self._truncated.clear()
            written = self.generate_texts(media, given, max_new_tokens)
            self._warn_truncated(len(given))
        return written

    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        """What `generate` does with checked, aligned lists; models that can generate write it."""
        raise UnsupportedError(
            f"{self.name!r} cannot generate text; models of kind 'vqa' can "
            "(`t2v-eval list models --kind vqa`)"
        )

    def explain(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        top: int = 5,
        **template: str | None,
    ) -> list[list[Explanation]]:
        """How every score of a call with these arguments comes about.

        Args:
            top: how many alternatives to each token of the answer are told.

        Returns:
            M lists of N explanations.

        Raises:
            UnsupportedError: this scorer does not score by the probability of an answer.
        """
        block, bound = Block.of(images, texts), self._with_call_templates(template)
        media = open_list(block.images, self.allow_urls)
        with self._lock, torch.inference_mode():
            return bound.map_one_by_one(
                media, lambda one: bound.explain_image(one, block.texts, top)
            )

    def map_one_by_one(self, media: Sequence[Media], make: Callable[[Media], _T]) -> list[_T]:
        """What `make` makes of every picture; a model that runs here says which one is too large.

        Raises:
            ScoringError: one that does not fit into the memory.
        """
        return [make(one) for one in media]

    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        """What `explain` does with one picture; models that answer write it."""
        raise UnsupportedError(
            f"{self.name!r} cannot explain a score by the tokens of an answer; models of kind "
            "'vqa' that run here can"
        )


def token_probabilities(
    tokenizer: Any, log_p: Tensor, targets: Sequence[int], top: int
) -> tuple[TokenProbability, ...]:
    """From rows of log-probabilities (T, vocabulary), one a token of the answer."""
    made = []
    for row, target in zip(log_p.exp(), targets, strict=True):
        best = row.topk(min(top, len(row)))
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        alternatives = tuple((tokenizer.decode([token]), p) for token, p in others)
        made.append(TokenProbability(tokenizer.decode([target]), float(row[target]), alternatives))
    return tuple(made)


def render_tokens(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens as text, control tokens too; the many tokens of a picture as their number."""
    parts: list[str] = []
    plain: list[int] = []
    for token, run in groupby(ids):
        count = len(list(run))
        if count <= FEW:
            plain += [token] * count
            continue
        parts += [tokenizer.decode(plain), f"{tokenizer.decode([token])} x {count}"]
        plain = []
    return "".join([*parts, tokenizer.decode(plain)])
