"""Small random classifiers of images, saved with their image processors as on the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    SiglipConfig,
    SiglipForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

SIDE = 32
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32
}  # fmt: skip


def _vit(labels: dict[str, Any]) -> Any:
    config = ViTConfig(**SMALL, image_size=SIDE, patch_size=8, **labels)
    return ViTForImageClassification(config), "ViTImageProcessor"


def _beit(labels: dict[str, Any]) -> Any:
    config = BeitConfig(**SMALL, image_size=SIDE, patch_size=8, **labels)
    return BeitForImageClassification(config), "BeitImageProcessor"


def _swin(labels: dict[str, Any]) -> Any:
    config = SwinConfig(
        image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4,
        **labels,
    )  # fmt: skip
    return SwinForImageClassification(config), "ViTImageProcessor"


def _convnext(labels: dict[str, Any]) -> Any:
    config = ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], **labels)
    return ConvNextForImageClassification(config), "ConvNextImageProcessor"


def _siglip(labels: dict[str, Any]) -> Any:
    vision = {**SMALL, "image_size": SIDE, "patch_size": 8}
    text = {**SMALL, "vocab_size": 8}
    config = SiglipConfig(vision_config=vision, text_config=text, **labels)
    return SiglipForImageClassification(config), "SiglipImageProcessor"


CLASSIFIERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "vit": _vit, "beit": _beit, "swin": _swin, "convnext": _convnext, "siglip": _siglip
}  # fmt: skip


def save_classifier(
    folder: Path, kind: str = "vit", labels: Sequence[str] = ("normal", "nsfw"), **config: Any
) -> Path:
    """Save a classifier with these labels into a folder."""
    torch.manual_seed(0)
    names = dict(enumerate(labels))
    numbers = {label: n for n, label in names.items()}
    network, processor = CLASSIFIERS[kind]({"id2label": names, "label2id": numbers, **config})
    with torch.no_grad():
        for parameter in network.parameters():  # so that probabilities are far from one half
            parameter.normal_(0, 0.3)
    network.save_pretrained(folder)
    side = {"shortest_edge": SIDE} if kind == "convnext" else {"height": SIDE, "width": SIDE}
    import transformers

    getattr(transformers, processor)(size=side).save_pretrained(folder)
    return folder
