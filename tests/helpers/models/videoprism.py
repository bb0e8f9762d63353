"""A small random VideoPrism, as transformers saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlavaOnevisionVideoProcessor,
    VideoPrismClipModel,
    VideoPrismConfig,
    VideoPrismProcessor,
    VideoPrismTokenizer,
)

FRAMES = 16
WORDS = "a red ball rolls over green grass dog cat is not sitting on the table two people".split()


def make_videoprism(folder: Path) -> dict[str, Any]:
    """Write its files; return the options that load it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in dict.fromkeys(WORDS)]
    pieces += [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "initializer_range": 0.3,
    }
    vision = {
        "image_size": 36,
        "num_frames": FRAMES,
        "num_spatial_layers": 2,
        "num_temporal_layers": 1,
        "num_auxiliary_layers": 1,
    }
    text = {"vocab_size": len(pieces), "num_hidden_layers": 2, "max_position_embeddings": 12}
    torch.manual_seed(0)
    config = VideoPrismConfig(vision_config={**sizes, **vision}, text_config={**sizes, **text})
    model = VideoPrismClipModel(config).eval()
    model.save_pretrained(folder)
    videos = LlavaOnevisionVideoProcessor(size={"height": 36, "width": 36}, do_normalize=False)
    tokenizer = VideoPrismTokenizer(vocab=pieces, extra_ids=0)
    VideoPrismProcessor(videos, tokenizer).save_pretrained(folder)
    return {"checkpoint": folder}
