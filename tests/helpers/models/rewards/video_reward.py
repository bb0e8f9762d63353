"""A small random VideoReward in the published layout, the same with any version of PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.models.rewards.hpsv3 import SPECIAL, write_tokenizer
from transformers import Qwen2VLConfig, Qwen2VLModel

QUESTION = """DETAILED_PROMPT_WITH_SPECIAL_TOKEN = '''
How does it look? <|VQ_reward|>
How does it move? <|MQ_reward|>
Textual prompt - {text_prompt}
Does it match? <|TA_reward|>
END
'''
"""
WIDTH, RANK, ROWS = 32, 3, 256 + len(SPECIAL) + 3
CONFIG = {
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "model_type": "qwen2_vl",
    "vocab_size": ROWS,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    "tie_word_embeddings": False,
    "image_token_id": 256 + SPECIAL.index("<|image_pad|>"),
    "video_token_id": 256 + SPECIAL.index("<|video_pad|>"),
    "vision_start_token_id": 256 + SPECIAL.index("<|vision_start|>"),
    "vision_config": {
        "model_type": "qwen2_vl",
        "depth": 2,
        "embed_dim": 16,
        "hidden_size": WIDTH,
        "num_heads": 2,
        "mlp_ratio": 2,
    },
}
# The tables of the published model_config.json that decide scores.
SETTINGS: dict[str, dict[str, Any]] = {
    "data_config": {
        "max_frame_pixels": 200704,
        "num_frames": None,
        "fps": 2.0,
        "eval_dim": ["VQ", "MQ", "TA"],
        "prompt_template_type": "detailed_special",
        "sample_type": "uniform",
    },
    "model_config": {"output_dim": 1, "use_special_tokens": True, "reward_token": "special"},
    "peft_lora_config": {"lora_enable": True, "lora_r": RANK, "lora_alpha": 5, "use_rslora": False},
    "inference_config": {
        "VQ_mean": 0.3,
        "VQ_std": 1.7,
        "MQ_mean": -0.4,
        "MQ_std": 0.6,
        "TA_mean": 1.1,
        "TA_std": 2.5,
    },
}


def make_base(folder: Path) -> Path:
    """Configuration, tokenizer and image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    processor = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14}
    processor |= {"merge_size": 2, "temporal_patch_size": 2}
    processor |= {"min_pixels": 3136, "max_pixels": 12845056}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make_weights(base: Path) -> dict[str, torch.Tensor]:
    """By the names of transformers 4.45 and peft, as in the published file."""
    draw = np.random.RandomState(0)
    with torch.device("meta"):
        network = Qwen2VLModel(Qwen2VLConfig.from_pretrained(base))
    shapes = {}
    for name, value in network.state_dict().items():
        old = name.replace("language_model.", "model.")
        if old.startswith("model.layers.") and "_proj." in old:
            stem, _, kind = old.rpartition(".")
            shapes[f"{stem}.base_layer.{kind}"] = value.shape
            if kind == "weight":
                shapes[f"{stem}.lora_A.default.weight"] = torch.Size([RANK, value.shape[1]])
                shapes[f"{stem}.lora_B.default.weight"] = torch.Size([value.shape[0], RANK])
        else:
            shapes[old] = value.shape
    shapes["lm_head.weight"] = torch.Size([ROWS, WIDTH])
    shapes["rm_head.weight"] = torch.Size([1, WIDTH])
    tensors = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = torch.from_numpy(draw.standard_normal(tuple(shape))).float()
        scale = 0.3 if len(shape) == 1 else shape[1:].numel() ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[f"base_model.model.{name}"] = centre + scale * values
    return tensors


def make_checkpoint(folder: Path) -> dict[str, str]:
    """Write weights, base and question, and return the arguments that load them."""
    weights = make_weights(make_base(folder))
    (folder / "model_config.json").write_text(json.dumps(SETTINGS))
    (folder / "checkpoint-7").mkdir()
    torch.save(weights, folder / "checkpoint-7" / "model.pth")
    (folder / "prompt_template.py").write_text(QUESTION)
    return {"checkpoint": str(folder), "questions": str(folder / "prompt_template.py")}
