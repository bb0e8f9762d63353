"""Extractors by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.extractors.extractor import Extractor
from t2v_eval.registry import models

NETWORKS: Mapping[str, str] = {
    "inception-v3": "inception.inception_v3",
    "dinov2": "vision.dinov2",
}
"""Names of extractors besides scorers, and the functions that load them."""

TIMM = "timm:"
"""Prefix of the name of a network of timm."""


def default_extractor() -> str:
    """Return the extractor that comes with the package: the dual encoder of the demonstration.

    >>> default_extractor() in models.names(kind="clip")
    True
    """
    return next(card.name for card in models.cards.values() if card.demo and card.kind == "clip")


def load_extractor(
    name: str,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resize: str | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
) -> Extractor:
    """Load the extractor of a name.

    Args:
        name: a name of `NETWORKS`, ``timm:NAME``, or a scorer that embeds images, by its name or
            the `features` of its card.
        checkpoint: other weights: a hub id, a folder, a file or an https URL.
        resize: the resizer of inception-v3: "clean", "legacy" or "tf1".
        device: default: CUDA, then MPS, then the CPU, whichever is available first.
        batch_size: the first batch size that is tried.

    Raises:
        UnknownNameError: no such name.
        InputError: an option that the extractor does not have.
        CheckpointError: the weights are missing, unsafe to unpickle, or of another network.

    >>> load_extractor("tiny-clip", device="cpu").facts()["dtype"]
    'float32'
    """
    options: dict[str, Any] = {"device": device}
    if checkpoint is not None:
        options["checkpoint"] = checkpoint
    if batch_size is not None:
        options["batch_size"] = batch_size
    if resize is not None:
        if name != "inception-v3":
            raise InputError(
                f"`resize={resize!r}`: {name} resizes as it was trained; only inception-v3 has "
                "several resizers"
            )
        options["resize"] = resize
    if name.startswith(TIMM):
        from t2v_eval.extractors.vision import timm_network

        return timm_network(name.removeprefix(TIMM), **options)
    if name in NETWORKS:
        module, _, function = NETWORKS[name].rpartition(".")
        make: Callable[..., Extractor] = getattr(
            import_module(f"t2v_eval.extractors.{module}"), function
        )
        return make(**options)
    from t2v_eval.extractors.embeddings import EmbeddingExtractor

    check_extractor(name)
    return EmbeddingExtractor(_short_names().get(name, name), **options)


def check_extractor(name: str) -> None:
    """Check that there is an extractor of a name, without loading it.

    Args:
        name: as for `load_extractor`.

    Raises:
        UnknownNameError: no such name; the message lists the nearest.

    >>> check_extractor("inception-v3")
    """
    short_names = _short_names()
    if name.startswith(TIMM) or name in NETWORKS or name in short_names:
        return
    try:
        models.card(name)
    except UnknownNameError as error:
        names = [*NETWORKS, TIMM, *short_names, *models.names(kind="clip")]
        close = difflib.get_close_matches(name, names, 3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UnknownNameError(
            f"there are no features called {name!r}.{hint} Pass "
            f"{', '.join([*NETWORKS, *short_names])}, timm:NAME or a scorer of kind 'clip'."
        ) from error


def _short_names() -> dict[str, str]:
    """Return the scorers by the names of their features."""
    return {card.features: card.name for card in models.cards.values() if card.features}
