"""More vision-language models small enough for tests, of classes that are loaded and compared once.

`CARDED` have cards of their own; `OTHERS` are reached as hf-vlm:ORG/MODEL.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.models.tiny_vlm import (
    EXPERTS,
    QWEN,
    QWEN3_TOWER,
    QWEN_SEEN,
    ROPE,
    SEEING,
    TEXT,
    chatml,
    gemma_template,
    gemma_tokenizer,
    tokenizer,
    write,
)
from transformers import (
    AyaVisionConfig,
    AyaVisionProcessor,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedImageProcessor,
    Gemma4UnifiedProcessor,
    Gemma4UnifiedVideoProcessor,
    Gemma4VideoProcessor,
    Glm4vConfig,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    Lfm2VlConfig,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    Mistral3Config,
    Molmo2Config,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    WhisperFeatureExtractor,
)
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

TURNS = ["<|im_start|>", "<|im_end|>", "<pad>"]
ENDS = {"eos_token": "<|im_end|>", "pad_token": "<pad>"}


def idefics(folder: Path, config: type, processor: type, *parts: type) -> None:
    """A model of the Idefics line: images cut into tiles, with tokens for rows and columns."""
    special = [*TURNS, "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    special += [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    words = tokenizer(special, **ENDS)
    edges = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    images, *videos = (part(**edges) for part in parts)
    result = processor(
        images,
        words,
        *videos,
        image_seq_len=4,
        chat_template=DEFAULT_CHAT_TEMPLATE if videos else chatml("<image>"),
    )
    described = config(
        text_config={"model_type": "llama", "vocab_size": len(words), **TEXT},
        vision_config=SEEING,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=2,
    )
    write(folder, described, result)


def smolvlm(folder: Path) -> None:
    parts = SmolVLMImageProcessor, SmolVLMVideoProcessor
    idefics(folder, SmolVLMConfig, SmolVLMProcessor, *parts)


def idefics3(folder: Path) -> None:
    idefics(folder, Idefics3Config, Idefics3Processor, Idefics3ImageProcessor)


def molmo2(folder: Path) -> None:
    marks = ["<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>"]
    marks += ["<im_end>", "<frame_end>", "<im_low>"]
    words = tokenizer([*TURNS, "<|image|>", "<|video|>", *marks], bos_token="<|im_end|>", **ENDS)
    template = "{{ bos_token }}" + chatml("<|image|>", "<|video|>")
    processor = Molmo2Processor(
        Molmo2ImageProcessor(
            size={"height": 28, "width": 28}, patch_size=7, max_crops=4, overlap_margins=[1, 1]
        ),
        Molmo2VideoProcessor(size={"height": 28, "width": 28}, patch_size=7),
        words,
        chat_template=template,
    )
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    ids = dict(zip(marks, words.convert_tokens_to_ids(marks), strict=True))
    config = Molmo2Config(
        text_config={"vocab_size": len(words), **TEXT, "head_dim": 8, "additional_vocab_size": 0},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "image_size": [28, 28],
            "patch_size": 7,
            **heads,
        },
        adapter_config={
            "vision_feature_layer": [-1, -2],
            "hidden_size": 32,
            "intermediate_size": 48,
            "text_hidden_size": 32,
            **heads,
        },
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        image_patch_id=ids["<im_patch>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )
    write(folder, config, processor)


GEMMA = ["<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|image>", "<image|>", "<|image|>"]
GEMMA += ["<|video|>", "<|audio>", "<audio|>", "<|audio|>"]
GEMMA_ROLES = {"boi": 5, "eoi": 6, "image": 7, "boa": 9, "eoa": 10, "audio": 11}
GEMMA_TEXT = {
    **TEXT,
    "head_dim": 8,
    "global_head_dim": 8,
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "use_bidirectional_attention": "vision",
    "final_logit_softcapping": 30.0,
}


def gemma4(folder: Path) -> None:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, **heads}
    parts = (Gemma4AudioFeatureExtractor, Gemma4ImageProcessor, Gemma4VideoProcessor)
    vision = {**tower, "position_embedding_size": 256}
    text = {"vocab_size_per_layer_input": 400, "hidden_size_per_layer_input": 0}
    gemma(folder, Gemma4Config, Gemma4Processor, parts, vision, **text)


def gemma4_unified(folder: Path) -> None:
    """Without a tower: patches of pixels are what the language model reads."""
    parts = (
        Gemma4UnifiedAudioFeatureExtractor,
        Gemma4UnifiedImageProcessor,
        Gemma4UnifiedVideoProcessor,
    )
    vision = {"mm_embed_dim": 32, "mm_posemb_size": 64, "output_proj_dims": 32}
    gemma(folder, Gemma4UnifiedConfig, Gemma4UnifiedProcessor, parts, vision)


def gemma(
    folder: Path,
    config: type,
    processor: type,
    parts: tuple[type, type, type],
    vision: dict[str, object],
    **text: object,
) -> None:
    roles = {role: GEMMA[place] for role, place in GEMMA_ROLES.items()}
    words = gemma_tokenizer(GEMMA, roles)
    template = gemma_template("<|turn>", "<turn|>", image="<|image|>", video="<|video|>")
    hearing, seeing, watching = parts
    patches = {"patch_size": 7, "pooling_kernel_size": 2}
    result = processor(
        feature_extractor=hearing(),
        image_processor=seeing(**patches, max_soft_tokens=70),
        tokenizer=words,
        video_processor=watching(**patches),
        chat_template=template,
    )
    ids = {f"{role}_token_id": words.convert_tokens_to_ids(t) for role, t in roles.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    whole = config(
        text_config={**GEMMA_TEXT, "vocab_size": len(words), **text},
        vision_config={**vision, **patches},
        audio_config=None,
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        tie_word_embeddings=False,
        **ids,
    )
    write(folder, whole, result)


def qwen3_omni(folder: Path) -> None:
    """The thinker alone, in the configuration of the whole."""
    special = [*QWEN, "<|audio_pad|>", "<|audio_start|>", "<|audio_end|>"]
    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"audio_token": "<|audio_pad|>", "vision_bos_token": "<|vision_start|>"}
    named |= {"vision_eos_token": "<|vision_end|>", "audio_bos_token": "<|audio_start|>"}
    named |= {"audio_eos_token": "<|audio_end|>"}
    words = tokenizer(
        special, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=named
    )
    images = Qwen2VLImageProcessor(
        size={"shortest_edge": 32**2, "longest_edge": 9 * 32**2}, patch_size=16
    )
    template = chatml(*QWEN_SEEN)
    videos = Qwen2VLVideoProcessor(patch_size=16)
    processor = Qwen3OmniMoeProcessor(
        images, videos, WhisperFeatureExtractor(), words, chat_template=template
    )
    ids = {f"{n}_token_id": words.convert_tokens_to_ids(f"<|{n}_pad|>") for n in NAMED}
    thinker = Qwen3OmniMoeThinkerConfig(
        text_config={
            "vocab_size": len(words),
            **TEXT,
            "rope_parameters": ROPE,
            "head_dim": 8,
            **EXPERTS,
        },
        vision_config={"depth": 2, "num_heads": 4, **QWEN3_TOWER},
        audio_config={
            "num_mel_bins": 8,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "d_model": 16,
            "output_dim": 32,
            "downsample_hidden_size": 8,
        },
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|vision_end|>"),
        audio_start_token_id=words.convert_tokens_to_ids("<|audio_start|>"),
        **ids,
    )
    write(folder, thinker, processor)


NAMED = ("image", "video", "audio")


def mistral3(folder: Path) -> None:
    """Pixtral's images, of any size, in Mistral's conversation without roles."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    words = tokenizer(special, bos_token="<s>", eos_token="</s>", pad_token="<unk>")
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]"
        "{% for c in m.content %}{% if c.type == 'image' %}[IMG]{% else %}{{ c.text }}{% endif %}"
        "{% endfor %}[/INST]{% else %}{{ m.content[0].text }}</s>{% endif %}{% endfor %}"
    )
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14}),
        words,
        patch_size=7,
        spatial_merge_size=2,
        chat_template=template,
    )
    config = Mistral3Config(
        text_config={"model_type": "mistral", "vocab_size": len(words), **TEXT, "head_dim": 8},
        vision_config={"model_type": "pixtral", **SEEING, "image_size": 56, "head_dim": 8},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def glm(
    folder: Path, config: Any, processor: Any, images: Any, videos: Any, **text: object
) -> None:
    """A GLM that sees, of these classes; `text` is what its language model has beside others."""
    marks = ("", "begin_of_", "end_of_")
    markers = {kind: [f"<|{mark}{kind}|>" for mark in marks] for kind in ("image", "video")}
    special = ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|endoftext|>"]
    words = tokenizer(
        [*special, *markers["image"], *markers["video"]],
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    template = (
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% for c in m.content %}"
        "{% if c.type == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}"
        "{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    edges = {"shortest_edge": 28**2, "longest_edge": 9 * 28**2}
    ids = {
        f"{kind}{end}_token_id": words.convert_tokens_to_ids(token)
        for kind, tokens in markers.items()
        for end, token in zip(("", "_start", "_end"), tokens, strict=True)
    }
    vision = {
        "depth": 2,
        "num_heads": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "out_hidden_size": 32,
        "image_size": 56,
    }
    write(
        folder,
        config(text_config={"vocab_size": len(words), **TEXT, **text}, vision_config=vision, **ids),
        processor(images(size=edges), words, videos(), chat_template=template),
    )


def glm4v(folder: Path) -> None:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    classes = Glm4vConfig, Glm4vProcessor, Glm4vImageProcessor, Glm4vVideoProcessor
    glm(folder, *classes, rope_parameters=rope, pad_token_id=4)


def aya_vision(folder: Path) -> None:
    special = [*TURNS, "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>"]
    special += ["<|IMG_LINE_BREAK|>", "TILE_GLOBAL", *(f"TILE_{n}" for n in range(1, 5))]
    words = tokenizer(special, **ENDS)
    processor = AyaVisionProcessor(
        GotOcr2ImageProcessor(size={"height": 28, "width": 28}, min_patches=1, max_patches=4),
        words,
        patch_size=7,
        img_size=28,
        downsample_factor=2,
        chat_template=chatml("<image>"),
    )
    config = AyaVisionConfig(
        text_config={
            "model_type": "cohere2",
            "vocab_size": len(words),
            **TEXT,
            "sliding_window": 12,
            "logit_scale": 1.0,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        vision_config={"model_type": "siglip_vision_model", **SEEING, "vision_use_head": False},
        image_token_index=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


def lfm2_vl(folder: Path) -> None:
    """Two layers of short convolutions, whose states no mask can keep apart."""
    special = [*TURNS, "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    special += [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    words = tokenizer(special, **ENDS)
    images = Lfm2VlImageProcessor(
        tile_size=28,
        encoder_patch_size=7,
        min_image_tokens=2,
        max_image_tokens=4,
        min_tiles=2,
        max_tiles=4,
        max_num_patches=16,
    )
    processor = Lfm2VlProcessor(images, words, chat_template=chatml("<image>"))
    text = {**TEXT, "layer_types": ["conv", "conv", "full_attention"], "conv_L_cache": 3}
    config = Lfm2VlConfig(
        text_config={"model_type": "lfm2", "vocab_size": len(words), **text},
        vision_config={
            "model_type": "siglip2_vision_model",
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_patches": 16,
            "patch_size": 7,
            "vision_use_head": False,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projector_hidden_size=32,
        tie_word_embeddings=False,
    )
    write(folder, config, processor)


CARDED: dict[str, Callable[[Path], None]] = {
    make.__name__: make for make in (smolvlm, molmo2, gemma4, gemma4_unified, qwen3_omni)
}
OTHERS: dict[str, Callable[[Path], None]] = {
    make.__name__: make for make in (idefics3, mistral3, glm4v, aya_vision, lfm2_vl)
}
