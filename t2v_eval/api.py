"""Load a scorer by name, score in one call, and list what can be named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2v_eval.inputs.template import templates
from t2v_eval.local.checkpoint_files import loading
from t2v_eval.registry import ModelCard, benchmarks, models

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from t2v_eval.inputs.media import MediaLike
    from t2v_eval.scoring.scorer import ImageMode, OnError, Scorer
    from t2v_eval.store import Store


def load(
    name: str | ModelCard,
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
        name: a name of `list_models()`, or ``FAMILY:CHECKPOINT``, where the
            checkpoint may be a hub id such as ``openai/clip-vit-base-patch32``; or a card.
        checkpoint: other weights of the same kind: a hub id, a directory or a file.
        device: by default CUDA, then MPS, then the CPU, whichever is available first.
        dtype: by default float32; bfloat16 for large models where the hardware is fast at it,
            on a CPU only for weights stored in half precision.
        store: the file (a path or a `Store`) that keeps scores between calls; None keeps none.
        image_mode: "seen" or "original"; see `Scorer`.
        on_error: "raise" or "skip"; see `Scorer`.
        options: other arguments of the scorer; see its class.

    Returns:
        A scorer, ready to be called with images and texts.

    Raises:
        UnknownNameError: no such name; the message lists the nearest ones.
        MissingPackageError: an optional package is not installed; the message has the pip command.
        CheckpointError: the weights are missing, unsafe to unpickle, or of another model.
    """
    arguments = {"checkpoint": checkpoint, "device": device, "dtype": dtype, "store": store}
    arguments |= {"image_mode": image_mode, "on_error": on_error}
    named = {key: value for key, value in arguments.items() if value is not None}
    with loading():
        scorer: Scorer = models.create(name, **named, **options)
    if scorer.store is not None:
        _ = scorer.id  # hashed now, so that stored scores belong to the weights just read
    return scorer


def score(
    model: str,
    images: MediaLike | Iterable[MediaLike],
    texts: str | Iterable[str] | None = None,
    **options: Any,
) -> Tensor:
    """Load `model` and score every image against every text.

    Args:
        model: a name, as for `load`.
        images: M images or videos: paths, URLs, PIL images, arrays or bytes; or a single one.
        texts: N texts, or a single one; None for scorers that use no text.
        options: `references`, `question_template`, `answer_template` and `template` of the call;
            all others as for `load`.

    Returns:
        (M, N) float32 tensor on the CPU; higher is better.

    Raises:
        InputError: an image or a text cannot be used.
        T2VError: as `load` and the scorer raise.
    """
    of_call = ("references", "question_template", "answer_template", "template")
    call_options = {key: options.pop(key) for key in of_call if key in options}
    return load(model, **options).forward(images, texts, **call_options)


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
