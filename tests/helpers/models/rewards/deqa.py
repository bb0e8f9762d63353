"""A small random DeQA-Score in the published layout, the same with any version of PyTorch."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import torch

GOLDENS = Path(__file__).parents[3] / "goldens"
TOKENIZER = GOLDENS / "video" / "internvideo2_clip" / "llama" / "tokenizer.model"
ROWS, WIDTH, HIDDEN, LAYERS = 420, 24, 32, 2
SIDE, PATCH, VISION, QUERIES = 56, 14, 16, 5
TOKENS = (SIDE // PATCH) ** 2 + 1
CONFIG = {
    "model_type": "mplug_owl2",
    "architectures": ["MPLUGOwl2LlamaForCausalLM"],
    "vocab_size": ROWS,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "visual_config": {
        "visual_model": {
            "hidden_size": VISION,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": PATCH,
            "layer_norm_eps": 1e-6,
        },
        "visual_abstractor": {
            "hidden_size": VISION,
            "encoder_hidden_size": VISION,
            "intermediate_size": 20,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_learnable_queries": QUERIES,
            "grid_size": SIDE // PATCH,
            "layer_norm_eps": 1e-6,
        },
    },
}


def shapes() -> dict[str, list[int]]:
    """Return the shapes of the weights by their names."""

    def linear(name: str, out: int, width: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [out, width], f"{name}.bias": [out]}

    def norm(name: str, width: int) -> dict[str, list[int]]:
        return {f"{name}.weight": [width], f"{name}.bias": [width]}

    listed = {"model.embed_tokens.weight": [ROWS, WIDTH], "lm_head.weight": [ROWS, WIDTH]}
    listed["model.norm.weight"] = [WIDTH]
    for n in range(LAYERS):
        layer = f"model.layers.{n}"
        for name in ("q_proj", "o_proj"):
            listed[f"{layer}.self_attn.{name}.weight"] = [WIDTH, WIDTH]
        for name, size in (("gate_proj", [HIDDEN, WIDTH]), ("up_proj", [HIDDEN, WIDTH])):
            listed[f"{layer}.mlp.{name}.weight"] = size
        listed[f"{layer}.mlp.down_proj.weight"] = [WIDTH, HIDDEN]
        for way in (0, 1):
            for name in ("k_proj", "v_proj"):
                listed[f"{layer}.self_attn.{name}.multiway.{way}.weight"] = [WIDTH, WIDTH]
            for name in ("input_layernorm", "post_attention_layernorm"):
                listed[f"{layer}.{name}.multiway.{way}.weight"] = [WIDTH]
    part = "model.vision_model"
    listed[f"{part}.embeddings.cls_token"] = [1, 1, VISION]
    listed[f"{part}.embeddings.position_embedding"] = [1, TOKENS, VISION]
    listed[f"{part}.embeddings.patch_embed.weight"] = [VISION, 3, PATCH, PATCH]
    listed |= norm(f"{part}.embeddings.pre_layernorm", VISION)
    listed |= norm(f"{part}.post_layernorm", VISION)
    for n in range(2):
        layer = f"{part}.encoder.layers.{n}"
        listed |= linear(f"{layer}.self_attn.query_key_value", 3 * VISION, VISION)
        listed |= linear(f"{layer}.self_attn.dense", VISION, VISION)
        listed |= linear(f"{layer}.mlp.fc1", 24, VISION) | linear(f"{layer}.mlp.fc2", VISION, 24)
        listed |= norm(f"{layer}.input_layernorm", VISION)
        listed |= norm(f"{layer}.post_attention_layernorm", VISION)
    part = "model.visual_abstractor"
    listed[f"{part}.query_embeds"] = [1, QUERIES, VISION]
    listed[f"{part}.vit_eos"] = [1, 1, WIDTH]
    listed |= linear(f"{part}.visual_fc", WIDTH, VISION)
    for n in range(2):
        layer = f"{part}.encoder.layers.{n}.crossattention"
        for name in ("query", "key", "value"):
            listed |= linear(f"{layer}.attention.{name}", VISION, VISION)
        listed[f"{layer}.attention.q_pos_embed"] = [QUERIES, VISION]
        listed[f"{layer}.attention.k_pos_embed"] = [TOKENS, VISION]
        listed |= linear(f"{layer}.output.out_proj", VISION, VISION)
        listed |= norm(f"{layer}.output.norm2", VISION) | norm(f"{layer}.norm1", VISION)
        listed |= norm(f"{layer}.normk", VISION)
        mlp = f"{layer}.output.mlp"
        listed |= linear(f"{mlp}.w1", 20, VISION) | linear(f"{mlp}.w3", 20, VISION)
        listed |= linear(f"{mlp}.w2", VISION, 20) | norm(f"{mlp}.ffn_ln", 20)
    return listed


def make_weights() -> dict[str, torch.Tensor]:
    """By the names of the published file."""
    draw = np.random.RandomState(0)
    tensors = {}
    for name, shape in sorted(shapes().items()):
        values = torch.from_numpy(draw.standard_normal(shape)).float()
        scale = 0.3 if len(shape) == 1 else math.prod(shape[1:]) ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = centre + scale * values
    for name in tensors:  # so that images differ with random weights
        if name.endswith(("patch_embed.weight", "value.weight", "visual_fc.weight")):
            tensors[name] *= 5
    return tensors


def make_checkpoint(folder: Path) -> Path:
    """Write configuration, tokenizer and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(TOKENIZER, folder)
    torch.save(make_weights(), folder / "pytorch_model.bin")
    return folder
