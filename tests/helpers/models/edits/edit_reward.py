"""A small random EditReward in the published layout, the same with any version of PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from helpers.models.rewards.hpsv3 import SPECIAL, write_tokenizer
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

GOLDENS = Path(__file__).parents[3] / "goldens" / "clip"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>system\nYou are a tiny model.<|im_end|>\n"
    "<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = """
INSTRUCTION_EDIT_FOLLOWING = '''
Was it done?
{text_prompt}
'''
INSTRUCTION_EDIT_QUALITY = 'Does it look well after: {text_prompt}'
"""
WIDTH = 32
CONFIG = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "model_type": "qwen2_5_vl",
    "vocab_size": 256 + len(SPECIAL) + 1,
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
        "model_type": "qwen2_5_vl",
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
    },
}


def make_base(folder: Path) -> Path:
    """Configuration, tokenizer, chat template and image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    processor = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 14}
    processor |= {"merge_size": 2, "temporal_patch_size": 2}
    processor |= {"min_pixels": 3136, "max_pixels": 12845056}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def make_weights(folder: Path) -> dict[str, torch.Tensor]:
    """By the names of transformers 4.57, drawn by a generator that NumPy promises not to change."""
    draw = np.random.RandomState(0)
    with torch.device("meta"):
        network = Qwen2_5_VLModel(Qwen2_5_VLConfig.from_pretrained(folder))
    shapes = {f"model.{name}": value.shape for name, value in network.state_dict().items()}
    shapes["lm_head.weight"] = torch.Size([CONFIG["vocab_size"], WIDTH])
    for head in ("rm_heads.head_0", "rm_heads.head_1"):
        for n, (outputs, inputs) in {0: (1024, WIDTH), 3: (16, 1024), 5: (2, 16)}.items():
            shapes[f"{head}.{n}.weight"] = torch.Size([outputs, inputs])
            shapes[f"{head}.{n}.bias"] = torch.Size([outputs])
    tensors = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = torch.from_numpy(draw.standard_normal(tuple(shape))).float()
        scale = 0.3 if len(shape) == 1 else shape[1:].numel() ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensors[name] = centre + scale * values
    return tensors


def make_checkpoint(folder: Path) -> dict[str, str]:
    """Write weights, base and questions, and return the arguments that load them."""
    make_base(folder)
    save_file(make_weights(folder), folder / "model.safetensors")
    (folder / "prompts.py").write_text(QUESTIONS)
    return {"checkpoint": str(folder), "questions": str(folder / "prompts.py")}
