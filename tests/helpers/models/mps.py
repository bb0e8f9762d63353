"""A small random MPS checkpoint."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPModel

WIDTH, HEAD, HEADS, INNER, LAYERS = 16, 4, 4, 24, 2  # 16 is what the small CLIP projects to


def shapes(n: int) -> dict[str, tuple[int, ...]]:
    words, itself = f"cross_model.layers.{n}.0.fn.", f"cross_model.layers.{n}.1.fn."
    return {
        words + "norm.weight": (WIDTH,),
        words + "norm.bias": (WIDTH,),
        words + "to_q.weight": (HEADS * HEAD, WIDTH),
        words + "to_kv.weight": (2 * HEAD, WIDTH),
        words + "to_out.weight": (WIDTH, HEADS * HEAD),
        words + "ff.0.weight": (2 * INNER, WIDTH),
        words + "ff.2.weight": (WIDTH, INNER),
        itself + "norm.weight": (WIDTH,),
        itself + "norm.bias": (WIDTH,),
        itself + "fused_attn_ff_proj.weight": (HEADS * HEAD + 2 * HEAD + 2 * INNER, WIDTH),
        itself + "attn_out.weight": (WIDTH, HEADS * HEAD),
        itself + "ff_out.1.weight": (WIDTH, INNER),
    }


def make_weights(clip: str) -> dict[str, torch.Tensor]:
    """By the authors' names: of the CLIP in a folder, and of random layers above it."""
    generator = torch.Generator().manual_seed(0)
    result = {f"model.{n}": t for n, t in CLIPModel.from_pretrained(clip).state_dict().items()}
    for n in range(LAYERS):
        for name, shape in shapes(n).items():
            result[name] = torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        steps = torch.arange(0, HEAD, 2) / HEAD
        result[f"cross_model.layers.{n}.1.fn.rotary_emb.inv_freq"] = 10_000**-steps
    return {name: value.contiguous() for name, value in result.items()}


def make_checkpoint(folder: Path, clip: str) -> Path:
    shutil.copytree(clip, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    named = {f"mps.{n}": t for n, t in make_weights(clip).items()}
    save_file(named, folder / "model.safetensors")
    return folder
