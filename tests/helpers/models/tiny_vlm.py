"""Vision-language models small enough for tests: real classes, random weights, real processors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MllamaConfig,
    MllamaImageProcessor,
    MllamaProcessor,
    PaliGemmaConfig,
    PaliGemmaProcessor,
    PerceptionLMConfig,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
)

CORPUS = [
    'Does this figure show "a red apple on a table"? Please answer yes or no. Yes No yes no',
    "user assistant system You are a helpful assistant. the cat and two dogs by the river",
] * 3

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
    "initializer_range": 0.4,  # far from the uniform answers of small weights
    "tie_word_embeddings": False,
}

SEEING = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SEEING |= {"num_attention_heads": 4, "image_size": 28, "patch_size": 7}
Shape = Mapping[str, Any]

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% elif c.type == 'video' %}VIDEO"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatml(image: str, video: str = "") -> str:
    """The template of a model in whose conversation images and videos are these tokens."""
    return CHATML.replace("IMAGE", image).replace("VIDEO", video)


def tokenizer(special: list[str], **roles: object) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the special tokens of a model."""
    result = Tokenizer(models.BPE())
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    result.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=result, **roles)


def llava(folder: Path, text: Shape = TEXT, seeing: Shape = SEEING) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<image>", "<pad>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<pad>")
    side = seeing["image_size"]
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        words,
        patch_size=seeing["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml("<image>\n"),
    )
    config = LlavaConfig(
        text_config={"model_type": "llama", "vocab_size": len(words), **text},
        vision_config={"model_type": "clip_vision_model", **seeing},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"]
QWEN += ["<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TOWER = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
QWEN3_TOWER = {
    **QWEN_TOWER,
    "deepstack_visual_indexes": [0, 1],
    "num_position_embeddings": 64,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
QWEN_SEEN = [f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video")]


def qwen(
    folder: Path,
    config: type,
    processor: type,
    vision: dict[str, object],
    patch: int = 14,
    most: int = 9,
    **text: object,
) -> None:
    words = tokenizer(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    side = 2 * patch
    images = Qwen2VLImageProcessor(
        size={"shortest_edge": side**2, "longest_edge": most * side**2}, patch_size=patch
    )
    template = chatml(*QWEN_SEEN)
    names = ("vision_start", "vision_end", "image", "video")
    ids = dict(zip(names, words.convert_tokens_to_ids(QWEN[3:]), strict=True))
    result = config(
        text_config={"vocab_size": len(words), **TEXT, "rope_parameters": ROPE, **text},
        vision_config={"depth": 2, "num_heads": 4, **vision},
        **{f"{name}_token_id": number for name, number in ids.items()},
        tie_word_embeddings=False,
    )
    videos = {Qwen3VLProcessor: Qwen3VLVideoProcessor}.get(processor, Qwen2VLVideoProcessor)
    write(folder, result, processor(images, words, videos(), chat_template=template))


def qwen2_vl(folder: Path) -> None:
    vision = {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    qwen(folder, Qwen2VLConfig, Qwen2VLProcessor, vision)


def qwen2_5_vl(folder: Path, text: Shape = {}, seeing: Shape = {}, most: int = 9) -> None:  # noqa: B006
    vision = {**QWEN_TOWER, "fullatt_block_indexes": [1], **seeing}
    qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLProcessor, vision, most=most, **text)


def qwen3_vl(folder: Path) -> None:
    qwen(folder, Qwen3VLConfig, Qwen3VLProcessor, QWEN3_TOWER, patch=16, head_dim=8)


def qwen3_vl_moe(folder: Path) -> None:
    options = {"patch": 16, "head_dim": 8, **EXPERTS}
    qwen(folder, Qwen3VLMoeConfig, Qwen3VLProcessor, QWEN3_TOWER, **options)


def qwen3_5(folder: Path) -> None:
    """Two layers of linear attention, whose states no mask can keep apart."""
    vision = {**QWEN_TOWER, "num_position_embeddings": 64}
    linear = {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    linear |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "head_dim": 8}
    kinds = ["linear_attention", "linear_attention", "full_attention"]
    rope = {**ROPE, "partial_rotary_factor": 1.0}
    qwen(
        folder,
        Qwen3_5Config,
        Qwen3VLProcessor,
        vision,
        patch=16,
        layer_types=kinds,
        rope_parameters=rope,
        **linear,
    )


def internvl(folder: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    roles = {"start_image": "<img>", "end_image": "</img>", "context_image": "<IMG_CONTEXT>"}
    roles |= {"video": "<video>"}
    words = tokenizer(
        special,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens={f"{role}_token": token for role, token in roles.items()},
    )
    side = {"height": 28, "width": 28}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=side, min_patches=1, max_patches=4),
        words,
        InternVLVideoProcessor(size=side),
        image_seq_length=4,
        chat_template=chatml("<IMG_CONTEXT>\n", "<video>\n"),
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        vision_config={**SEEING, "image_size": [28, 28], "patch_size": [7, 7]},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def gemma_tokenizer(special: list[str], roles: Mapping[str, str]) -> PreTrainedTokenizerFast:
    """The tokenizer of a Gemma, with the tokens that stand for images and sounds by their role."""
    return tokenizer(
        special,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={f"{role}_token": token for role, token in roles.items()},
    )


def gemma_template(start: str, end: str, **tokens: str) -> str:
    """The chat template of a Gemma, in which turns are between two tokens.

    Args:
        tokens: the token of each kind of content but text.
    """
    contents = "".join(
        f"{{% {'elif' if n else 'if'} c.type == '{kind}' %}}{token}"
        for n, (kind, token) in enumerate(tokens.items())
    )
    return (
        "{{ bos_token }}{% for m in messages %}"
        + start
        + "{{ 'model' if m.role == 'assistant' else 'user' }}\n{% for c in m.content %}"
        + contents
        + "{% else %}{{ c.text | trim }}{% endif %}{% endfor %}"
        + end
        + "\n{% endfor %}{% if add_generation_prompt %}"
        + start
        + "model\n{% endif %}"
    )


def gemma3(folder: Path) -> None:
    """With a window that is shorter than a question; images look at all of themselves."""
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    special += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    roles = {"boi": special[5], "eoi": special[6], "image": special[7]}
    words = gemma_tokenizer(special, roles)
    template = gemma_template("<start_of_turn>", "<end_of_turn>", image="<start_of_image>")
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        words,
        chat_template=template,
        image_seq_length=4,
    )
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3Config(
        text_config={
            "vocab_size": len(words),
            **TEXT,
            "head_dim": 8,
            "sliding_window": 12,
            "query_pre_attn_scalar": 8,
            "layer_types": kinds,
        },
        vision_config=SEEING,
        mm_tokens_per_image=4,
        **{f"{r}_token_index": words.convert_tokens_to_ids(t) for r, t in roles.items()},
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def paligemma(folder: Path) -> None:
    special = ["<pad>", "<eos>", "<bos>", "<image>"]
    words = tokenizer(
        special,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    images = SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, words)
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", "vocab_size": len(words), **TEXT, "head_dim": 8},
        vision_config={"model_type": "siglip_vision_model", **SEEING, "vision_use_head": False},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def mllama(folder: Path) -> None:
    """Two layers look at the image from within; one image in up to four tiles."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    special += ["<|image|>", "<|python_tag|>", "<pad>"]
    words = tokenizer(special, bos_token=special[0], eos_token=special[1], pad_token="<pad>")
    template = (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
        "\n\n{% for c in m.content %}{% if c.type == 'image' %}<|image|>{% else %}"
        "{{ c.text | trim }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
        "{% endif %}"
    )
    side = {"height": 28, "width": 28}
    processor = MllamaProcessor(
        MllamaImageProcessor(size=side, max_image_tiles=4), words, chat_template=template
    )
    config = MllamaConfig(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "num_hidden_layers": 5,
            "cross_attention_layers": [1, 3],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "pad_token_id": 6,
        },
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "intermediate_size": 48,
            "vision_output_dim": 64,
            "image_size": 28,
            "patch_size": 7,
            "intermediate_layers_indices": [1],
        },
        image_token_index=words.convert_tokens_to_ids("<|image|>"),
    )
    write(folder, config, processor)


def llava_next(folder: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<image>", "<pad>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<pad>")
    side, grids = {"height": 28, "width": 28}, [[28, 56], [56, 28], [56, 56]]
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": 28}, crop_size=side, image_grid_pinpoints=grids
        ),
        words,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chatml("<image>\n"),
    )
    config = LlavaNextConfig(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config={"model_type": "clip_vision_model", **SEEING},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grids,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def llava_onevision(folder: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<image>", "<video>", "<pad>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<pad>")
    side, grids = {"height": 28, "width": 28}, [[28, 28], [28, 56], [56, 28], [56, 56]]
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=side, image_grid_pinpoints=grids),
        words,
        LlavaOnevisionVideoProcessor(size=side),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n", "<video>\n"),
    )
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(words), **TEXT},
        vision_config={"model_type": "siglip_vision_model", **SEEING, "vision_use_head": False},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grids,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def perception_lm(folder: Path) -> None:
    special = ["<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", "<pad>"]
    words = tokenizer(
        special,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
    )
    processor = PerceptionLMProcessor(
        PerceptionLMVideoProcessor(size={"height": 32, "width": 32}),
        PerceptionLMImageProcessor(tile_size=32, max_num_tiles=4),
        words,
        patch_size=8,
        pooling_ratio=2,
        chat_template=chatml("<|image|>", "<|video|>"),
    )
    tower = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": [32, 32], "patch_size": 8}
    config = PerceptionLMConfig(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_tiny_patch16_384",
            "do_pooling": False,
            "num_classes": 0,
            "model_args": {**tower, "global_pool": ""},
        },
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def save_tiny(
    factory: pytest.TempPathFactory, make: Callable[[Path], None], name: str = ""
) -> Path:
    """Copy a model, which is made once, into a folder of its own and return that.

    Args:
        name: the name of the folder, which a scorer takes for that of its model.
    """
    if make not in _SAVED:
        _SAVED[make] = factory.mktemp(f"{make.__name__} as saved")
        make(_SAVED[make])
    folder = factory.mktemp(make.__name__) / name
    shutil.copytree(_SAVED[make], folder, dirs_exist_ok=True)
    return folder


_SAVED: dict[Callable[[Path], None], Path] = {}


def write(folder: Path, config: object, processor: object) -> None:
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=1.2 * value[0].numel() ** -0.5)
            elif "gate" in name:
                value.fill_(0.7)  # they start closed, and the image would not matter
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


MADE = (llava, llava_next, llava_onevision, qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe, qwen3_5)
MADE += (internvl, gemma3, paligemma, mllama, perception_lm)
TINY: dict[str, Callable[[Path], None]] = {make.__name__: make for make in MADE}
OPTIONS = {"paligemma": {"style": "paligemma"}}
