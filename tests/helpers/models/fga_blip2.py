"""A small FGA-BLIP2: the weights of the small BLIP-2 under the names that LAVIS gives them."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parents[2] / "goldens" / "vqa" / "blip2"
BASE = FOLDER / "checkpoint" / "hf"
TO_LAVIS = [
    (r"^vision_model\.post_layernorm", "ln_vision"),
    (r"^vision_model\.embeddings\.class_embedding", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual_encoder.patch_embed.proj"),
    (r"^vision_model\.encoder\.layers", "visual_encoder.blocks"),
    (r"self_attn\.projection", "attn.proj"),
    (r"self_attn", "attn"),
    (r"layer_norm(\d)", r"norm\1"),
    (r"^embeddings\.", "Qformer.bert.embeddings."),
    (r"^qformer\.layernorm", "Qformer.bert.embeddings.LayerNorm"),
    (r"^qformer\.", "Qformer.bert."),
    (r"attention\.attention\.", "attention.self."),
    (r"^(vision|text)_projection", r"\1_proj"),
]


def make_tensors() -> dict[str, torch.Tensor]:
    """What the authors save: all of the network, and parts that no score depends on."""
    tensors = {}
    for name, value in load_file(BASE / "model.safetensors").items():
        for pattern, new in TO_LAVIS:
            name = re.sub(pattern, new, name)
        if name.endswith("attn.qkv.bias"):
            queries, keys, values = value.chunk(3)
            assert not keys.any()
            tensors[name.replace("qkv.bias", "q_bias")] = queries.clone()
            tensors[name.replace("qkv.bias", "v_bias")] = values.clone()
        else:
            tensors[name] = value
    head = ("bias", "decoder.bias", "decoder.weight")
    head += tuple(f"transform.{n}.{w}" for n in ("dense", "LayerNorm") for w in ("weight", "bias"))
    unused = [f"mask_proj.layers.{n}.{w}" for n in (0, 2, 4, 6, 8) for w in ("weight", "bias")]
    unused += [f"Qformer.cls.predictions.{name}" for name in head]
    unused += ["temp", "Qformer.bert.embeddings.position_ids"]
    return tensors | {name: torch.ones(1) for name in unused}


def make_checkpoint(folder: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    saved = {"model": make_tensors() if tensors is None else tensors, "optimizer": {}, "epoch": 4}
    torch.save(saved, folder / "fga_blip2.pth")
    return folder
