"""Models that read, small enough for tests: real classes and processors, random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.models.tiny_vlm import ROPE, TEXT, tokenizer, write
from helpers.models.tiny_vlm_more import glm
from transformers import (
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    GlmOcrConfig,
    GotOcr2Config,
    GotOcr2ImageProcessor,
    GotOcr2Processor,
    PaddleOCRVLConfig,
    PaddleOCRVLImageProcessor,
    PaddleOCRVLProcessor,
)

PADDLE = ["<unk>", "<s>", "</s>", "<|IMAGE|>", "<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO|>"]


def glm_ocr(folder: Path) -> None:
    classes = GlmOcrConfig, Glm46VProcessor, Glm46VImageProcessor, Glm46VVideoProcessor
    glm(folder, *classes, rope_parameters=ROPE, head_dim=8)


def paddleocr_vl(folder: Path) -> None:
    roles = {"image_token": "<|IMAGE|>"}
    words = tokenizer(
        PADDLE, bos_token="<s>", eos_token="</s>", pad_token="<unk>", extra_special_tokens=roles
    )
    template = (
        "<s>{% for m in messages %}User: {% for c in m.content %}{% if c.type == 'image' %}"
        "<|IMAGE_START|><|IMAGE|><|IMAGE_END|>{% else %}{{ c.text }}{% endif %}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}\nAssistant: {% endif %}"
    )
    processor = PaddleOCRVLProcessor(
        PaddleOCRVLImageProcessor(size={"shortest_edge": 4 * 28**2, "longest_edge": 9 * 28**2}),
        words,
        chat_template=template,
    )
    config = PaddleOCRVLConfig(
        text_config={"vocab_size": len(words), **TEXT, "rope_parameters": ROPE, "head_dim": 8},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        },
        image_token_id=words.convert_tokens_to_ids("<|IMAGE|>"),
        video_token_id=words.convert_tokens_to_ids("<|VIDEO|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|IMAGE_START|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|IMAGE_END|>"),
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def got_ocr2(folder: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<img>", "</img>", "<imgpad>"]
    words = tokenizer(special, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    processor = GotOcr2Processor(GotOcr2ImageProcessor(size={"height": 64, "width": 64}), words)
    config = GotOcr2Config(
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 1,  # the processor counts 64 x 64 patches, 16 of which are a token
            "mlp_dim": 48,
            "window_size": 4,
            "global_attn_indexes": [],
        },
        image_token_index=words.convert_tokens_to_ids("<imgpad>"),
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


READERS: dict[str, Callable[[Path], None]] = {
    "glm-ocr": glm_ocr,
    "paddleocr-vl": paddleocr_vl,
    "got-ocr2": got_ocr2,
}
