"""Load a scorer by name, score in one call, and list what can be named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_eval.cards import ModelCard
from t2v_eval.errors import UnknownNameError
from t2v_eval.inputs.template import templates
from t2v_eval.local.checkpoint_files import loading
from t2v_eval.registry import benchmarks, models
from t2v_eval.utils.signatures import accepted, source_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from t2v_eval.inputs.media import MediaLike
    from t2v_eval.inputs.urls import AllowUrls
    from t2v_eval.scoring.scorer import ImageMode, OnError, Scorer
    from t2v_eval.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerOptions:
    """Options with which scorers are loaded; None leaves a choice to the scorer.

    Attributes:
        checkpoint: other weights of the same kind: a hub id, a directory or a file.
        device: for example "cuda:0" or "cpu"; default: CUDA, then MPS, then the CPU, whichever is
            available first.
        dtype: "float32", "bfloat16" or "float16"; default: float32; bfloat16 for large models where
            the hardware is fast at it, on a CPU only for weights stored in half precision.
        store: the file (a path or a `Store`) that stores scores between runs; None stores nothing.
        image_mode: "seen", "original" or "fast"; see `Scorer`.
        on_error: "raise" or "skip"; see `Scorer`.
        question_template: the question; ``{}`` stands for the text.
        answer_template: the answer whose probability is the score.
        template: the name of a question and answer template.
        batch_size: the batch size to try first, 1 or more; default: chosen by the scorer.
        allow_urls: whether images may be URLs of public addresses; "private" allows any address,
            "any" also other file systems that fsspec reads, such as s3://.
        max_cost: US dollars to spend on an API at most; more than 0. Default: no limit.
        max_requests: requests to send to an API at most; 1 or more. Default: no limit.
        batch: whether to use the provider's batch API; default: no.
        specific: options of one class of scorers by name; see that class.

    >>> options = ScorerOptions(device="cpu", question_template="Is this {}?")
    >>> options.load(models.card("tiny-clip")).template.question
    'Is this {}?'
    """

    checkpoint: str | os.PathLike[str] | None = None
    device: str | torch.device | None = None
    dtype: str | torch.dtype | None = None
    store: str | Path | Store | None = None
    image_mode: ImageMode = "seen"
    on_error: OnError = "raise"
    question_template: str | None = None
    answer_template: str | None = None
    template: str | None = None
    batch_size: int | None = None
    allow_urls: AllowUrls | None = None
    max_cost: float | None = None
    max_requests: int | None = None
    batch: bool | None = None
    specific: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_keywords(cls, **keywords: Any) -> ScorerOptions:
        """Sort keyword arguments into the attributes above and `specific` options.

        >>> ScorerOptions.from_keywords(device="cpu", share=False).specific
        {'share': False}
        """
        return cls(**split_keywords(cls, keywords))

    def for_card(self, card: ModelCard, others: Sequence[ModelCard] = ()) -> ScorerOptions:
        """Return the options that concern a scorer.

        Limits of API requests do only if it has an API. A `specific` option that its class does not
        take does only if none of the other scorers takes it; then it is a mistake.

        Args:
            card: the scorer.
            others: other scorers of the same call.

        >>> ScorerOptions(max_requests=9).for_card(models.card("tiny-clip")).max_requests is None
        True
        """
        specific = {
            name: value
            for name, value in self.specific.items()
            if takes_option(card, name) or not any(takes_option(other, name) for other in others)
        }
        if self.asks_service(card):
            return replace(self, specific=specific)
        return replace(self, max_cost=None, max_requests=None, batch=None, specific=specific)

    def asks_service(self, card: ModelCard) -> bool:
        """Return whether a scorer is behind an API, or asks one that an option names.

        >>> ScorerOptions(specific={"vlm": "gpt-4o"}).asks_service(models.card("dsg"))
        True
        """
        named = (value for name, value in self.specific.items() if takes_option(card, name))
        return card.remote or any(map(_is_remote, named))

    def load(self, card: ModelCard) -> Scorer:
        """Load the scorer of a card with these options.

        Raises:
            T2VError: see `t2v_eval.load`.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "specific"}
        chosen = {name: value for name, value in values.items() if value is not None}
        with loading():
            scorer: Scorer = models.build(card, **{**self.specific, **chosen})
        if scorer.store is not None:
            _ = scorer.id  # hashed now, so that stored scores belong to the weights just read
        return scorer


def check_entries(cards: Iterable[ModelCard]) -> None:
    """Check what can be checked of scorers without loading weights, before one is loaded.

    Raises:
        MissingPackageError: a package is not installed that a scorer needs.
        InputError: a Python file of the user's own has a mistake.

    >>> check_entries([models.card("tiny-clip")])
    """
    for card in cards:
        check = getattr(models.entry(card), "check", None)
        if check is not None:
            check(**card.args)


def _is_remote(value: object) -> bool:
    """Return whether an option names a scorer behind an API, which another scorer asks."""
    if not isinstance(value, str):
        return False
    try:
        return models.card(value).remote
    except UnknownNameError:
        return False


def takes_option(card: ModelCard, option: str) -> bool:
    """Return whether the class of a card may take an option: its source is read, not run.

    A family whose class depends on its argument, as a file of the user's own, is asked.

    >>> takes_option(models.card("tiny-clip"), "share")
    False
    """
    if card.file is None:
        return True
    keywords = accepted(source_of(card.file, card.module), card.entry)
    if keywords is None or option in keywords:
        return True
    takes = getattr(models.entry(card), "takes", None)
    return takes is not None and bool(takes(option, **card.args))


def split_keywords(options: type, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for a dataclass of options: all unknown keywords become its `specific`.

    >>> split_keywords(ScorerOptions, {"device": "cpu", "share": False})
    {'device': 'cpu', 'specific': {'share': False}}
    """
    names = {f.name for f in fields(options)} - {"specific"}
    shared = {name: value for name, value in keywords.items() if name in names}
    specific = {name: value for name, value in keywords.items() if name not in names}
    return {**shared, "specific": specific}


def load(
    name: str,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    store: str | Path | Store | None = None,
    image_mode: ImageMode = "seen",
    on_error: OnError = "raise",
    **options: Any,
) -> Scorer:
    """Load the scorer called `name` with its weights.

    Args:
        name: a name of `list_models()`, or ``FAMILY:CHECKPOINT``, where the checkpoint may be a
            hub id such as ``openai/clip-vit-base-patch32``.
        checkpoint: other weights of the same kind: a hub id, a directory or a file.
        device: default: CUDA, then MPS, then the CPU, whichever is available first.
        dtype: default: float32; bfloat16 for large models where the hardware is fast at it, on a
            CPU only for weights stored in half precision.
        store: the file (a path or a `Store`) that stores scores between calls; None stores nothing.
        image_mode: "seen", "original" or "fast"; see `Scorer`.
        on_error: "raise" or "skip"; see `Scorer`.
        options: other options: `ScorerOptions` has those of all scorers, a class its own.

    Returns:
        A scorer, ready to be called with images and texts.

    Raises:
        UnknownNameError: no such name; the message lists the nearest ones.
        MissingPackageError: an optional package is not installed; the message has the pip command.
        CheckpointError: the weights are missing, unsafe to unpickle, or of another model.
        InputError: an option that the scorer does not have.

    >>> from PIL import Image
    >>> scorer = load("tiny-clip", device="cpu")
    >>> scorer([Image.new("RGB", (48, 48), "red")], ["a red square", "a blue circle"]).shape
    torch.Size([1, 2])
    """
    return ScorerOptions.from_keywords(
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        store=store,
        image_mode=image_mode,
        on_error=on_error,
        **options,
    ).load(models.card(name))


def score(
    model: str,
    images: MediaLike | Iterable[MediaLike],
    texts: str | Iterable[str] | None = None,
    *,
    references: Sequence[Sequence[str]] | None = None,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
    **options: Any,
) -> Tensor:
    """Load `model` and score every image against every text.

    Args:
        model: a name, as for `load`.
        images: M images or videos: paths, URLs, PIL images, arrays or bytes; or a single one.
        texts: N texts, or a single one; None for scorers that use no text.
        references: reference captions of each text, for scorers that use them.
        question_template: the question; ``{}`` stands for the text.
        answer_template: the answer whose probability is the score.
        template: the name of a question and answer template; see `list_templates`.
        options: as for `load`.

    Returns:
        (M, N) float32 tensor on the CPU; higher is better.

    Raises:
        InputError: an image or a text cannot be used.
        T2VError: as `load` and the scorer raise.

    >>> from PIL import Image
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    >>> score("tiny-clip", images, "a red square", device="cpu").shape
    torch.Size([2, 1])
    """
    return load(model, **options).forward(
        images,
        texts,
        references,
        question_template=question_template,
        answer_template=answer_template,
        template=template,
    )


def list_models(pattern: str = "*", kind: str = "*") -> list[str]:
    """Return the names of scorers that match a glob.

    Args:
        pattern: a glob for the name.
        kind: a glob for the kind: clip, preference, itm, vqa ...

    >>> set(list_models(kind="vqa")) <= set(list_models())
    True
    """
    return models.names(pattern, kind)


def list_benchmarks(pattern: str = "*") -> list[str]:
    """Return the names of benchmarks that match a glob.

    >>> list_benchmarks("no-such-*")
    []
    """
    return benchmarks.names(pattern)


def list_templates() -> list[str]:
    """Return the names of the question and answer templates.

    >>> "plain" in list_templates()
    True
    """
    return list(templates())
