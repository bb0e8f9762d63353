"""A small random HPSv3++ in the published layout, the same with any version of PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from helpers.models.rewards.hpsv3 import SPECIAL, write_tokenizer
from transformers import Qwen3VLConfig, Qwen3VLModel

SCRIPT = """
INSTRUCTION = '''
How good is it?
Textual prompt - {text_prompt}


'''
prompt_with_special_token = '''
Rate it: <|Reward|>

END
'''
"""
WIDTH, CONDITION, ROWS = 32, 6, 256 + len(SPECIAL) + 1
CONFIG = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
    "tie_word_embeddings": False,
    "image_token_id": 256 + SPECIAL.index("<|image_pad|>"),
    "video_token_id": 256 + SPECIAL.index("<|video_pad|>"),
    "vision_start_token_id": 256 + SPECIAL.index("<|vision_start|>"),
    "vision_end_token_id": 256 + SPECIAL.index("<|vision_end|>"),
    "text_config": {
        "model_type": "qwen3_vl_text",
        "vocab_size": ROWS,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 32768,
        "rope_theta": 5e6,
        "rope_scaling": {
            "rope_type": "default",
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        },
    },
    "vision_config": {
        "model_type": "qwen3_vl",
        "depth": 3,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    },
}


def make_base(folder: Path) -> Path:
    """Configuration, tokenizer and image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    processor = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16}
    processor |= {"merge_size": 2, "temporal_patch_size": 2}
    processor |= {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make_weights(base: Path) -> dict[str, torch.Tensor]:
    """By the names of transformers 4.57, in which the published file is."""
    draw = np.random.RandomState(0)
    with torch.device("meta"):
        network = Qwen3VLModel(Qwen3VLConfig.from_pretrained(base))
    shapes = {f"model.{name}": [*value.shape] for name, value in network.state_dict().items()}
    shapes["lm_head.weight"] = [ROWS, WIDTH]
    for layer, outputs, inputs in (
        ("rm_head.0", 8, WIDTH),
        ("rm_head.3", 4, 8),
        ("rm_head.5", 2, 4),
        ("cond_encoder.0", CONDITION, 2),
        ("cond_encoder.2", CONDITION, CONDITION),
        ("film_gen.0", WIDTH, CONDITION),
        ("film_gen.2", 2 * WIDTH, WIDTH),
        ("cap_encoder.proj", CONDITION, WIDTH),
        ("cap_encoder.pool_attn", 1, CONDITION),
        ("cap_encoder.out_proj", 1, CONDITION),
    ):
        shapes |= {f"{layer}.weight": [outputs, inputs], f"{layer}.bias": [outputs]}
    tensors = {}
    for name in sorted(shapes):
        values = torch.from_numpy(draw.standard_normal(shapes[name])).float()
        scale = 0.3 if len(shapes[name]) == 1 else np.prod(shapes[name][1:]) ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = centre + float(scale) * values
    return tensors


def make_checkpoint(folder: Path) -> dict[str, str]:
    """Write weights, base and question, and return the arguments that load them."""
    torch.save(make_weights(make_base(folder)), folder / "hpsv3++.pth")
    (folder / "data_collator_qwen.py").write_text(SCRIPT)
    return {"checkpoint": str(folder), "questions": str(folder / "data_collator_qwen.py")}
