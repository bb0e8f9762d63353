"""A small random HPSv3 checkpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
SPECIAL += ["<|image_pad|>", "<|video_pad|>"]


FILE = "HPSv3.safetensors"


SHORT = "{} <|Reward|> END"  # a question that does not take a thousand tokens


def write_tokenizer(folder):
    """Bytes and nothing else, in the layout of Qwen's."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    (folder / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate(letters)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(256 + n): {"content": token, "special": True, "normalized": False}
        for n, token in enumerate(SPECIAL)
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
    config |= {"pad_token": SPECIAL[0], "eos_token": SPECIAL[2]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_base(folder: Path) -> Path:
    """Configuration, tokenizer and image processor."""
    write_tokenizer(folder)
    Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 1280).save_pretrained(folder)
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2},
        image_token_id=256 + SPECIAL.index("<|image_pad|>"),
    )
    config.save_pretrained(folder)
    return folder


def make_weights(base: Path) -> dict[str, torch.Tensor]:
    """By the names of transformers 4.45, in which the published file is."""
    torch.manual_seed(0)
    config = Qwen2VLConfig.from_pretrained(base)
    config.text_config.vocab_size = 256 + len(SPECIAL) + 1
    model = Qwen2VLForConditionalGeneration(config)
    result = {}
    for name, value in model.state_dict().items():
        old = name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")
        scale = 0.1 if value.ndim == 1 else 1 / math.sqrt(value[0].numel())
        centre = 1.0 if value.ndim == 1 and "norm" in name and "weight" in name else 0.0
        result[old] = centre + scale * torch.randn(value.shape)
    for n, (out, width) in {0: (8, 32), 3: (4, 8), 5: (2, 4)}.items():
        result[f"rm_head.{n}.weight"] = torch.randn(out, width) / math.sqrt(width)
        result[f"rm_head.{n}.bias"] = torch.randn(out)
    return result


def make_checkpoint(folder: Path) -> Path:
    save_file(make_weights(make_base(folder)), folder / FILE)
    return folder
