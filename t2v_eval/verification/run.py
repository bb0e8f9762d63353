"""Verify scorers: load each as a user would, and check it in every way that is known."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from t2v_eval.api import ScorerOptions, takes_option
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VError
from t2v_eval.local.base import LocalScorer
from t2v_eval.local.devices import free_bytes
from t2v_eval.local.moving import contents
from t2v_eval.registry import models
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.verification import files, scores
from t2v_eval.verification.known import check_known, default_folder, known_answers
from t2v_eval.verification.results import Check, Verification
from t2v_eval.verification.tokenizers import NAME as TOKENIZER
from t2v_eval.verification.tokenizers import check_tokenizers

LOADING, KNOWN = "loading", "known answers"
PACKAGES = ("t2v-eval", "torch", "transformers", "open-clip-torch", "pillow")
# Options that name other weights or another network than those of a card.
WEIGHT_OPTIONS = (
    "arch",
    "clip",
    "pretrained",
    "processor",
    "revision",
    "tokenizer",
    "vision_tower",
)
PLAIN_OPTION = "share"  # False computes each pair by itself, in scorers that share work


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How a scorer is verified.

    Attributes:
        published: whether the weights are the published ones of the card, which are judged by
            known answers and by matching texts; by default unless the options name other weights.
        fetch: whether the images of known answers may be downloaded.
        folder: the folder of these images; by default one in the user's cache.

    >>> VerifyOptions(fetch=True).published is None
    True
    """

    published: bool | None = None
    fetch: bool = False
    folder: Path | None = None


def verify(
    card: ModelCard,
    options: ScorerOptions | None = None,
    verify_options: VerifyOptions | None = None,
) -> Verification:
    """Load a scorer and check its files, its tokenizer, its scores and what is known of them.

    A check that fails, or that cannot be made, is recorded, and the others go on. A service is
    not asked, as that would cost money.

    Args:
        card: the card of the scorer.
        options: the options to load it with; no store is used.
        verify_options: how it is verified.

    Raises:
        InputError: `card` is no card, or an option does not exist.

    >>> from t2v_eval.registry import models
    >>> verify(models.card("tiny-clip"), ScorerOptions(device="cpu")).failed
    False
    """
    if not isinstance(card, ModelCard):
        raise wrong_type("card", card, "a card, as `registry.models.card(name)` returns it")
    options = replace(options or ScorerOptions(), store=None)
    chosen = verify_options or VerifyOptions()
    if options.asks_service(card):
        reason = "a service has no weights to verify; `score` with one image tries it"
        return Verification(card.name, [Check.without(LOADING, reason)])
    return _Run(card, options, chosen).verification()


def is_published(card: ModelCard, options: ScorerOptions) -> bool:
    """Return whether a scorer with these options has the published weights of its card.

    The checkpoint of a family, ``FAMILY:CHECKPOINT``, is published if an answer of it is known.

    >>> from t2v_eval.registry import models
    >>> is_published(models.card("tiny-clip"), ScorerOptions(checkpoint="mine"))
    False
    """
    if options.checkpoint is not None or {*WEIGHT_OPTIONS} & options.specific.keys():
        return False
    return card.name in models.cards or any(a.checkpoint for a in known_answers(card))


class _Block(NamedTuple):
    """Scores of drawn images, and the precision that they were computed in."""

    values: scores.Matrix
    dtype: torch.dtype


class _Run:
    """The checks of one scorer, in the order of the table that shows them."""

    def __init__(self, card: ModelCard, options: ScorerOptions, chosen: VerifyOptions) -> None:
        self.card, self.options, self.chosen = card, options, chosen
        published = chosen.published
        self.published = is_published(card, options) if published is None else published
        self.checks: list[Check] = []
        self.facts: dict[str, Any] = {"published": self.published, "versions": _versions()}

    def verification(self) -> Verification:
        scorer = self._load(LOADING, self.options)
        if scorer is not None:
            self.checks.append(Check.of(LOADING, True, f"{type(scorer).__name__} was loaded"))
            self._check_files(scorer)
            block = self._check_scores(scorer)
            free = free_bytes(scorer.device) if isinstance(scorer, LocalScorer) else 0
            del scorer  # one set of weights is in memory at a time
            if block is not None:
                self._check_shared(block)
                self._check_precision(block, free)
        return Verification(self.card.name, self.checks, self.facts)

    def _load(self, name: str, options: ScorerOptions) -> Any:
        """Load the scorer; a failure is a failed check, unless an option is at fault."""
        try:
            with scores.quiet():
                return options.load(self.card)
        except InputError:
            raise
        except T2VError as error:
            self.checks.append(Check.of(name, False, str(error)))
            return None

    def _try(self, name: str, check: Callable[[], Check | list[Check]]) -> None:
        """Add a check, or several; an error of the library is a failed check."""
        try:
            result = check()
        except T2VError as error:
            result = Check.of(name, False, str(error))
        self.checks += result if isinstance(result, list) else [result]

    def _check_files(self, scorer: Any) -> None:
        parts = list(contents(scorer))
        scorers = [part for _, part in parts if isinstance(part, LocalScorer)]
        self.facts |= _facts(scorers)
        quantised, expected = _is_quantised(parts), self.card.expects_config
        self._try(files.USED, lambda: files.check_weights(scorers, parts, quantised))
        self._try(files.CONFIG, lambda: files.check_config(parts, expected, self.published))
        self._try(files.HEAD, lambda: files.check_head(scorers, parts))
        self._try(TOKENIZER, lambda: check_tokenizers(parts, self.published))

    def _check_scores(self, scorer: Any) -> _Block | None:
        """Check what needs no other copy of the weights; return the scores of drawn images."""
        if not isinstance(scorer, LocalScorer):
            reason = f"{type(scorer).__name__} asks another scorer: verify that one"
            self.checks.append(Check.without(scores.MATCHING, reason))
            return None
        pairs, values = scores.draw_pairs(), None
        try:
            values = scores.score_block(scorer, pairs)
        except InputError as error:  # of texts that only such a scorer understands
            reason = f"it takes texts of its own kind: {error}"
            self.checks.append(Check.without(scores.MATCHING, reason))
        except T2VError as error:
            self.checks.append(Check.of(scores.MATCHING, False, str(error)))
        if values is not None:
            uses_text = scorer.uses_text
            self.checks.append(scores.check_matching(values, self.published, uses_text))
            self._try(scores.TIME, lambda: scores.check_time(scorer, pairs))
            if not takes_option(self.card, PLAIN_OPTION):
                self._check_plain(scorer.computing_anew(), values, scorer.dtype)
        self._check_known(scorer)
        return None if values is None else _Block(values, scorer.dtype)

    def _check_shared(self, block: _Block) -> None:
        """Compare with a copy that shares no work, of scorers that share any."""
        if takes_option(self.card, PLAIN_OPTION):
            gc.collect()
            specific = {**self.options.specific, PLAIN_OPTION: False}
            plain = self._load(scores.PLAIN, replace(self.options, specific=specific))
            if plain is not None:
                self._check_plain(plain, block.values, block.dtype)

    def _check_plain(self, plain: LocalScorer, values: scores.Matrix, dtype: torch.dtype) -> None:
        """Compare scores of a block with those of each pair alone."""
        first, pairs = values[: scores.ALONE, : scores.ALONE], scores.draw_pairs()
        allowed, what = scores.tolerance_of(dtype, first), "of each pair alone"

        def check() -> Check:
            alone = scores.score_alone(plain, pairs)
            return scores.check_equal(scores.PLAIN, first, alone, allowed, what)

        self._try(scores.PLAIN, check)

    def _check_precision(self, block: _Block, free: int) -> None:
        """Compare scores with those in float32."""
        name, size = str(block.dtype).removeprefix("torch."), self.facts["bytes"]
        if name == "float32":
            self.checks.append(Check.without(scores.PRECISION, "the scorer runs in float32"))
            return
        if free + size < 2 * size:  # the weights in half precision have been freed
            reason = f"float32 needs {2 * size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
            self.checks.append(Check.without(scores.PRECISION, reason))
            return
        gc.collect()
        wide = self._load(scores.PRECISION, replace(self.options, dtype="float32"))
        if wide is None:
            return
        allowed, what = scores.tolerance_of(block.dtype, block.values), f"in float32, not {name}"

        def check() -> Check:
            others = scores.score_block(wide, scores.draw_pairs())
            result = scores.check_equal(scores.PRECISION, block.values, others, allowed, what)
            return result if self.published else scores.unjudged(result)

        self._try(scores.PRECISION, check)

    def _check_known(self, scorer: LocalScorer) -> None:
        answers = known_answers(self.card)
        if not answers:
            reason = "no published score of an image that can be downloaded is known"
            self.checks.append(Check.without(KNOWN, reason))
        elif not self.published:
            reason = "the weights are not the published ones; `published=True` compares anyway"
            self.checks.append(Check.without(KNOWN, reason))
        else:
            folder = self.chosen.folder or default_folder()
            allow = self.options.allow_urls or True
            for answer in answers:
                self._try(
                    f"known answer {answer.name}",
                    lambda a=answer: check_known(scorer, a, folder, self.chosen.fetch, allow),  # type: ignore[misc]
                )


def _is_quantised(parts: Sequence[tuple[str, Any]]) -> bool:
    return any(getattr(part, "quantization_method", None) for _, part in parts)


def _facts(scorers: Sequence[LocalScorer]) -> dict[str, Any]:
    """Return what was verified: ids, files and how each scorer ran."""
    return {
        "id": [scorer.id for scorer in scorers],
        "files": [str(file) for scorer in scorers for file in scorer.files],
        "bytes": sum(file.stat().st_size for scorer in scorers for file in scorer.files),
        "execution": [dict(scorer.execution) for scorer in scorers],
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
