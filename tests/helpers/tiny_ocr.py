"""Models that read, small enough for tests: real classes and processors, random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from helpers.models.tiny_vlm import ROPE, TEXT, tokenizer, write
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

GLM = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|endoftext|>"]
GLM += [f"<|{mark}{kind}|>" for kind in ("image", "video") for mark in ("", "begin_of_", "end_of_")]
PADDLE = ["<unk>", "<s>", "</s>", "<|IMAGE|>", "<|IMAGE_START|>", "<|IMAGE_END|>", "<|VIDEO|>"]


def template(start: str, user: str, image: str, assistant: str) -> str:
    return (
        f"{start}{{% for m in messages %}}{user}{{% for c in m.content %}}"
        f"{{% if c.type == 'image' %}}{image}{{% else %}}{{{{ c.text }}}}{{% endif %}}"
        f"{{% endfor %}}{{% endfor %}}{{% if add_generation_prompt %}}{assistant}{{% endif %}}"
    )


def glm_ocr(folder: Path) -> None:
    words = tokenizer(GLM, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    image = "<|begin_of_image|><|image|><|end_of_image|>"
    processor = Glm46VProcessor(
        Glm46VImageProcessor(size={"shortest_edge": 28**2, "longest_edge": 9 * 28**2}),
        words,
        Glm46VVideoProcessor(),
        chat_template=template("[gMASK]<sop>", "<|user|>\n", image, "<|assistant|>\n"),
    )
    ids = {
        f"{kind}{end}_token_id": words.convert_tokens_to_ids(f"<|{mark}{kind}|>")
        for kind in ("image", "video")
        for end, mark in (("", ""), ("_start", "begin_of_"), ("_end", "end_of_"))
    }
    config = GlmOcrConfig(
        text_config={"vocab_size": len(words), **TEXT, "rope_parameters": ROPE, "head_dim": 8},
        vision_config={
            "depth": 2,
            "num_heads": 4,
            "hidden_size": 32,
            "intermediate_size": 48,
            "out_hidden_size": 32,
            "image_size": 56,
        },
        **ids,
    )
    write(folder, config, processor)


def paddleocr_vl(folder: Path) -> None:
    roles = {"image_token": "<|IMAGE|>"}
    words = tokenizer(
        PADDLE, bos_token="<s>", eos_token="</s>", pad_token="<unk>", extra_special_tokens=roles
    )
    image = "<|IMAGE_START|><|IMAGE|><|IMAGE_END|>"
    processor = PaddleOCRVLProcessor(
        PaddleOCRVLImageProcessor(size={"shortest_edge": 4 * 28**2, "longest_edge": 9 * 28**2}),
        words,
        chat_template=template("<s>", "User: ", image, "\nAssistant: "),
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
