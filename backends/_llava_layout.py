"""LLaVA in the layout of its authors: a flat config.json, and the CLIP tower in a repository apart.

It is read as the same network in the layout of transformers, with one more row of the vocabulary
for the token that stands for a picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from t2v_eval.errors import CheckpointError
from t2v_eval.weights import check_keys

from ._clip_flant5 import read_weights, take

NAMES = {"model.mm_projector.0.": "linear_1.", "model.mm_projector.2.": "linear_2."}
FLAT = (
    "attention_bias bos_token_id eos_token_id hidden_act hidden_size intermediate_size "
    "max_position_embeddings mlp_bias num_attention_heads num_hidden_layers num_key_value_heads "
    "pad_token_id rms_norm_eps rope_scaling rope_theta vocab_size"
).split()


def read_flat(folder: Path) -> dict[str, Any] | None:
    """The config.json of this layout; None where it is of another.

    Raises:
        CheckpointError: it is of this layout, with a projector that is none of LLaVA-1.5.
    """
    try:
        flat: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if "mm_vision_tower" not in flat:
        return None
    if flat.get("mm_projector_type") != "mlp2x_gelu" or "mm_vision_select_layer" not in flat:
        raise CheckpointError(f"{folder} is no LLaVA-1.5: its config.json has no mlp2x_gelu")
    return flat


def to_config(flat: dict[str, Any], tower: Path) -> LlavaConfig:
    """What transformers calls the same network.

    Raises:
        CheckpointError: the tower's folder describes no CLIP tower.
    """
    try:
        vision = CLIPVisionConfig.from_pretrained(tower)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"vision_tower {tower} describes no CLIP tower: {error}") from error
    text = {name: flat[name] for name in FLAT if name in flat}
    whole = flat.get("mm_vision_select_feature") == "cls_patch"
    return LlavaConfig(
        text_config=LlamaConfig.from_dict({**text, "vocab_size": flat["vocab_size"] + 1}),
        vision_config=vision,
        image_token_index=flat["vocab_size"],
        vision_feature_layer=flat["mm_vision_select_layer"],
        vision_feature_select_strategy="full" if whole else "default",
        tie_word_embeddings=False,
    )


def build(
    folder: Path,
    tower: Path,
    config: LlavaConfig,
    device: torch.device,
    dtype: torch.dtype,
    attention: str,
) -> Any:
    """The network; a tower among the checkpoint's own weights is not read, as in the original."""
    found = read_weights(folder, device, dtype)
    take(found, "model.vision_tower.")
    tensors = {"lm_head.weight": _longer(found.pop("lm_head.weight"))}
    for name, tensor in found.items():
        start = next((start for start in NAMES if name.startswith(start)), "model.")
        place = "model.language_model." if start == "model." else "model.multi_modal_projector."
        tensors[place + NAMES.get(start, "") + name.removeprefix(start)] = tensor
    words = "model.language_model.embed_tokens.weight"
    tensors[words] = _longer(tensors[words])
    seeing = read_weights(tower, device, dtype)
    seeing = take(seeing, "vision_model.") or seeing
    take(seeing, "vision_model.embeddings.position_ids")
    for name, tensor in seeing.items():
        tensors["model.vision_tower." + name.removeprefix("vision_model.")] = tensor
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        dtype=dtype,
        attn_implementation=attention,
        output_loading_info=True,
    )
    network, told = loaded
    check_keys(folder, sorted(told["missing_keys"]), sorted(told["unexpected_keys"]))
    return network.to(device).eval().requires_grad_(False)


def _longer(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
