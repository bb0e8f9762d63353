"""OpenCLIP's networks without its loading: nothing is downloaded or unpickled unasked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Normalize, Resize  # type: ignore[import-untyped]

from t2v_eval.errors import CheckpointError, InputError, UnknownNameError
from t2v_eval.weights import fill, read_tensors

from ._tensors import resize, resize_short


def describe(arch: str, pretrained: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """An architecture's configuration, and what is known of its weights: where they are, how
    pictures are prepared for them, and whether they were trained with quick-GELU.

    Raises:
        InputError, UnknownNameError: no such file, architecture or tag.
    """
    if arch.endswith(".json"):
        try:
            config = json.loads(Path(arch).expanduser().read_text(encoding="utf-8"))
            return config.get("model_cfg", config), config.get("preprocess_cfg", {})
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"arch {arch!r} cannot be read: {error}") from error
    name = arch.replace("/", "-")
    if name not in open_clip.list_models():
        remedy = "Pass a JSON file for an architecture of your own."
        raise UnknownNameError.of("OpenCLIP architecture", arch, open_clip.list_models(), remedy)
    tag = open_clip.get_pretrained_cfg(name, pretrained or "")
    if pretrained and not tag:
        known = open_clip.list_pretrained_tags_by_model(name)
        remedy = f"OpenCLIP {open_clip.__version__} has {', '.join(known) or 'none'}."
        raise UnknownNameError.of(f"pretrained {arch}", pretrained, known, remedy)
    quick_gelu = tag.get("quick_gelu", False) or pretrained == "openai"
    return open_clip.get_model_config(name), {**tag, "quick_gelu": quick_gelu}


def build(config: dict[str, Any], quick_gelu: bool, device: torch.device) -> Any:
    """The network with random weights; no weights are downloaded for a tower of timm or the hub."""
    config = {**config, "quick_gelu": config.get("quick_gelu", False) or quick_gelu}
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    coca = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    with device:
        return (coca if custom else open_clip.CLIP)(**config)


def load_weights(network: Any, file: Path, tensors: dict[str, Tensor] | None = None) -> None:
    """Weights of any form that OpenCLIP loads, brought into the network's own.

    Args:
        tensors: what `file` holds, where it has been read already.

    Raises:
        CheckpointError: they are not this network's.
    """
    tensors = read_tensors(file) if tensors is None else tensors
    if next(iter(tensors), "").startswith("module."):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    try:
        tensors = convert_state_dict(network, tensors)
        if "positional_embedding" in tensors and not hasattr(network, "positional_embedding"):
            tensors = convert_to_custom_text_state_dict(tensors)
        tensors.pop("text.transformer.embeddings.position_ids", None)
        if network.logit_bias is not None:
            tensors.setdefault("logit_bias", torch.zeros(()))
        for name in {"logit_scale", "logit_bias"} & tensors.keys():
            if getattr(network, name) is not None:
                tensors[name] = tensors[name].reshape(getattr(network, name).shape)
        resize_pos_embed(tensors, network)
        resize_text_pos_embed(tensors, network)
    except (RuntimeError, AssertionError, KeyError, IndexError) as error:
        raise CheckpointError(f"{file} does not fit this model: {error}") from error
    fill(network, tensors, file)


def encode_ids(network: Any, ids: Tensor) -> Tensor:
    """Token ids -> embeddings. What stands behind an end token cannot reach it in a causal tower,
    so such a tower reads no further than the last end token of the batch.
    """
    tower = getattr(network, "text", network)
    mask, projection = getattr(tower, "attn_mask", None), getattr(tower, "text_projection", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", ""))
    if mask is None or getattr(tower, "cls_emb", None) is not None or pool not in ("argmax", "eos"):
        embeddings: Tensor = network.encode_text(ids)
        return embeddings
    end: Any = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    ends = (ids if pool == "argmax" else (ids == end).int()).argmax(dim=-1)
    n = int(ends.max()) + 1
    x: Tensor = tower.token_embedding(ids[:, :n]) + tower.positional_embedding[:n]
    x = tower.ln_final(tower.transformer(x, attn_mask=mask[:n, :n]))
    x = x[torch.arange(len(x), device=x.device), ends]
    if isinstance(projection, nn.Linear):
        x = projection(x)
    elif projection is not None:
        x = x @ projection
    return x


def prepare(transform: Any, pixels: Tensor) -> Tensor:
    """What OpenCLIP's validation transform does to a picture, done to pixels."""
    for step in transform.transforms:
        if isinstance(step, Resize) and isinstance(step.size, int):
            pixels = resize_short(pixels, step.size, step.interpolation.value)
        elif isinstance(step, Resize):
            height, width = step.size
            pixels = resize(pixels, (height, width), step.interpolation.value)
        elif isinstance(step, ResizeKeepRatio):
            picture = SimpleNamespace(size=tuple(pixels.shape[:-3:-1]))
            height, width = step.get_params(picture, step.size, step.longest)
            pixels = resize(pixels, (height, width), step.interpolation.value)
        elif isinstance(step, (CenterCrop, CenterCropOrPad, Normalize)):
            pixels = step(pixels)
    return pixels
