"""Small random X-CLIP, PE-AV and VideoScore, in the layouts of their published folders."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from helpers.models.tiny_vlm import tokenizer
from helpers.models.video import GOLDENS
from safetensors.torch import save_file
from tokenizers import processors
from transformers import (
    Idefics2Config,
    Idefics2ImageProcessor,
    Idefics2Model,
    Idefics2Processor,
    PeAudioVideoConfig,
    PeAudioVideoModel,
    XCLIPConfig,
    XCLIPModel,
)

SIDE = 32
XCLIP_FRAMES = 8
IMAGE_TOKENS = 4
# As published: old class names, and a size that is a number.
XCLIP_PROCESSOR = {
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "processor_class": "XCLIPProcessor",
    "resample": 2,
    "size": SIDE,
    "crop_size": SIDE,
}
PE_PROCESSOR = {
    "video_processor_type": "PeVideoVideoProcessor",
    "do_sample_frames": True,
    "num_frames": 16,
    "size": {"height": SIDE, "width": SIDE},
    "do_normalize": True,
    "do_resize": True,
    "do_rescale": True,
    "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def make_xclip(folder: Path) -> dict[str, Any]:
    """Write an X-CLIP of 8 frames; return the options that load it."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 4}
    mit = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1}
    mit |= {"num_attention_heads": 2}
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDENS / "languagebind_video" / name, folder)
    words = len(json.loads((folder / "vocab.json").read_text()))
    vision = {"image_size": SIDE, "patch_size": 16, "num_frames": XCLIP_FRAMES}
    config = XCLIPConfig(
        projection_dim=24,
        text_config={**tower, "vocab_size": words},
        vision_config={**tower, **vision, **{f"mit_{k}": v for k, v in mit.items()}},
        prompt_num_attention_heads=2,
        prompt_alpha=1.0,  # so that the video changes its texts a lot
    )
    torch.manual_seed(0)
    _save(XCLIPModel(config), folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(XCLIP_PROCESSOR))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    return {"checkpoint": folder}


def make_pe_av(folder: Path) -> dict[str, Any]:
    """Write a PE-AV, with its towers of audio; return the options that load it."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 2}
    seeing = {
        "architecture": "vit_pe_core_tiny_patch16_384",
        "num_classes": 16,
        "model_args": {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": SIDE},
    }
    dac = {"encoder_hidden_size": 4, "codebook_dim": 8, "downsampling_ratios": [2, 4]}
    encoder = {**tower, "head_dim": 16}
    special = ["[PAD]", "[CLS]", "[SEP]"]
    words = tokenizer(special, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    roles = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
    config = PeAudioVideoConfig(
        text_config={
            "model_type": "modernbert",
            **tower,
            **roles,
            **{"bos_token_id": 1, "eos_token_id": 2},
            "vocab_size": len(words),
            "max_position_embeddings": 64,
            "local_attention": 8,
        },
        audio_video_config={
            **encoder,
            "audio_config": {"model_type": "pe_audio_encoder", **encoder, "dac_config": dac},
            "video_config": {"model_type": "pe_video_encoder", **encoder, "vision_config": seeing},
        },
    )
    torch.manual_seed(0)
    with redirect_stdout(StringIO()):  # a note of transformers to its authors
        model = PeAudioVideoModel(config)
    with torch.no_grad():  # both are 0 in a new model
        model.video_model.text_video_logit_scale.fill_(1.5)
        model.video_model.text_video_logit_bias.fill_(-3.0)
    _save(model, folder)
    words.save_pretrained(folder)
    (folder / "video_preprocessor_config.json").write_text(json.dumps(PE_PROCESSOR))
    return {"checkpoint": folder}


def make_videoscore(folder: Path) -> dict[str, Any]:
    """Write an Idefics2 with a head of five ratings; return the options that load it."""
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 4}
    special = ["<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    words = tokenizer(special, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    words.pad_token = "<unk>"
    images = Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 56})
    Idefics2Processor(images, words, image_seq_len=IMAGE_TOKENS).save_pretrained(folder)
    config = Idefics2Config(
        image_token_id=words.convert_tokens_to_ids("<image>"),
        text_config={
            "model_type": "mistral",
            **tower,
            **{"head_dim": 8, "num_key_value_heads": 2, "vocab_size": len(words)},
            **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        },
        vision_config={**tower, "image_size": 56, "patch_size": 14},
        perceiver_config={
            **{"hidden_size": 32, "resampler_n_latents": IMAGE_TOKENS, "resampler_depth": 1},
            **{"resampler_n_heads": 2, "resampler_head_dim": 8, "num_key_value_heads": 1},
        },
        num_labels=5,
    )
    torch.manual_seed(0)
    model, head = Idefics2Model(config), torch.nn.Linear(32, 5)
    _save(model, folder)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"score.{name}": value for name, value in head.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return {"checkpoint": folder, "question_template": 'Rate the video of "{}":\n'}


def _save(model: Any, folder: Path) -> None:
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.normal_(std=1.2 * value[0].numel() ** -0.5)
    model.eval().save_pretrained(folder)
