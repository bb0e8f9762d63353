"""The one-line use, and the names that scripts written for t2v_metrics expect."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_eval.errors import UnknownNameError
from t2v_eval.inputs.template import templates
from t2v_eval.local.checkpoint_files import loading
from t2v_eval.registry import benchmarks, models

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from t2v_eval.inputs.media import MediaLike
    from t2v_eval.scoring.scorer import ImageMode, OnError, Scorer
    from t2v_eval.store import Store


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
    """The scorer called `name`, its weights loaded.

    Args:
        name: a name of `list_models()`, or ``FAMILY:CHECKPOINT``, where the
            checkpoint may be a hub id such as ``openai/clip-vit-base-patch32``.
        checkpoint: other weights of the same kind: a hub id, a directory or a file.
        device: default CUDA, then MPS, then the CPU.
        dtype: default float32; large models bfloat16 where that is fast, on a CPU only for
            weights stored in half precision.
        store: where scores are kept between calls (a path or a `Store`); None keeps nothing.
        image_mode: "seen" or "original"; see `Scorer`.
        on_error: "raise" or "skip"; see `Scorer`.
        options: what the scorer takes besides; see its class.

    Raises:
        UnknownNameError: with the nearest names.
        MissingPackageError: with the pip command.
        CheckpointError: weights that are not here, unsafe, or of another model.
    """
    given = {"checkpoint": checkpoint, "device": device, "dtype": dtype, "store": store}
    given |= {"image_mode": image_mode, "on_error": on_error}
    named = {key: value for key, value in given.items() if value is not None}
    with loading():
        scorer: Scorer = models.create(name, **named, **options)
    if scorer.store is not None:
        _ = scorer.id  # of the weights as they were read: what is kept is kept under it
    return scorer


def score(
    model: str,
    images: MediaLike | Iterable[MediaLike],
    texts: str | Iterable[str] | None = None,
    **options: Any,
) -> Tensor:
    """Load `model` and score every picture against every text.

    Args:
        options: `references`, `question_template`, `answer_template`, `template` for the call;
            everything else as for `load`.

    Returns:
        (M, N) float32 tensor on the CPU; higher is better.
    """
    call = ("references", "question_template", "answer_template", "template")
    asked = {key: options.pop(key) for key in call if key in options}
    return load(model, **options).forward(images, texts, **asked)


def list_models(pattern: str = "*", kind: str = "*") -> list[str]:
    """Names of scorers that match a glob; kinds are clip, preference, itm, vqa ..."""
    return models.names(pattern, kind)


def list_benchmarks(pattern: str = "*") -> list[str]:
    """Names of benchmarks that match a glob."""
    return benchmarks.names(pattern)


def list_templates() -> list[str]:
    """Names of question and answer templates."""
    return list(templates())


# What follows carries the names, arguments and defaults of t2v_metrics, so that
# `import t2v_eval as t2v_metrics` runs the scripts written for it.

_KINDS = {"VQAScore": ("vqa",), "CLIPScore": ("clip", "preference"), "ITMScore": ("itm",)}


def list_all_vqascore_models() -> list[str]:
    """Names that `VQAScore` takes."""
    return _names("VQAScore")


def list_all_clipscore_models() -> list[str]:
    """Names that `CLIPScore` takes."""
    return _names("CLIPScore")


def list_all_itmscore_models() -> list[str]:
    """Names that `ITMScore` takes."""
    return _names("ITMScore")


def list_all_models() -> list[str]:
    """Names that `get_score_model` takes."""
    return models.names()


def VQAScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """The VQAScore scorer `model`; options as for `load`."""
    return _load_kind("VQAScore", model, options)


def CLIPScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """The CLIPScore scorer `model`; options as for `load`."""
    return _load_kind("CLIPScore", model, options)


def ITMScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """The image-text-matching scorer `model`; options as for `load`."""
    return _load_kind("ITMScore", model, options)


def get_score_model(model: str | None = None, **options: Any) -> Scorer:
    """The scorer `model` of any kind, or the default VQAScore scorer; options as for `load`."""
    return load(model or models.default("vqa"), **options)


def _names(wanted: str) -> list[str]:
    return [name for kind in _KINDS[wanted] for name in models.names(kind=kind)]


def _load_kind(wanted: str, name: str | None, options: dict[str, Any]) -> Scorer:
    name = name or models.default(_KINDS[wanted][0])
    kind = models.card(name).kind
    if kind not in _KINDS[wanted]:
        known: Sequence[str] = _names(wanted)
        raise UnknownNameError.of(
            f"{wanted} model",
            name,
            known,
            f"It is of kind {kind!r}; t2v_eval.load({name!r}) loads any kind.",
        )
    return load(name, **options)
