"""Small random detectors, saved in the layout of the hub: one of each family that is supported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessor,
    RTDetrResNetConfig,
    SwinConfig,
)

from t2v_eval.registry import models

LABELS = ("person", "bicycle", "cat", "dog", "mouse", "diningtable", "tvmonitor")
SIZE = {"shortest_edge": 64, "longest_edge": 128}
RESNET = {"embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4, "layer_type": "basic"}
# Grounding DINO knows these four tokens by their numbers in BERT's vocabulary.
BERT_NUMBERS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}


def labels() -> dict[str, Any]:
    return {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}


def widths(size: int, layers: int = 1) -> dict[str, int]:
    """What the configurations of DETR and its relatives have in common."""
    return {
        "d_model": size,
        "encoder_layers": 1,
        "decoder_layers": layers,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "num_queries": 10,
    }


def swin() -> SwinConfig:
    return SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def detr(folder: Path) -> None:
    config = DetrConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=ResNetConfig(**RESNET, out_features=["stage4"]),
        **widths(16),
        **labels(),
    )
    save(folder, DetrForObjectDetection(config), DetrImageProcessor(size=SIZE))


def rt_detr(folder: Path) -> None:
    sides = {"encoder_in_channels": [8] * 3, "decoder_in_channels": [16] * 3}
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"]),
        encoder_hidden_dim=16,
        num_denoising=0,
        **sides,
        **widths(16),
        **labels(),
    )
    processor = RTDetrImageProcessor(size={"height": 64, "width": 64})
    save(folder, RTDetrForObjectDetection(config), processor)


def mask2former(folder: Path) -> None:
    config = Mask2FormerConfig(
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        **labels(),
    )
    processor = Mask2FormerImageProcessor(size=SIZE, size_divisor=32)
    save(folder, Mask2FormerForUniversalSegmentation(config), processor)


def owlv2(folder: Path) -> None:
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(Path(models.card("tiny-clip").args["checkpoint"], name), folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    text = {"vocab_size": len(tokenizer), "bos_token_id": 722, "eos_token_id": 723}
    config = Owlv2Config(
        text_config={**tower, **text, "max_position_embeddings": 16, "pad_token_id": 0},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    processor = Owlv2ImageProcessor(size={"height": 32, "width": 32})
    save(folder, Owlv2ForObjectDetection(config), Owlv2Processor(processor, tokenizer))


def grounding_dino(folder: Path) -> None:
    words = {f"[unused{n}]": n for n in range(1100)}
    named = {**BERT_NUMBERS, **{label: 200 + n for n, label in enumerate((*LABELS, "red"))}}
    vocabulary = {word: n for word, n in words.items() if n not in named.values()} | named
    config = GroundingDinoConfig(
        backbone_config=swin(),
        text_config=BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
        ),
        max_text_len=32,
        **widths(32, layers=2),
    )
    network = GroundingDinoForObjectDetection(config)
    tokenizer = BertTokenizer(vocab=vocabulary)
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(size=SIZE), tokenizer)
    save(folder, network, processor)


def save(folder: Path, network: Any, processor: Any) -> None:
    """Save a network with weights large enough that its confidences differ."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            scale = 1.5 / parameter[0].numel() ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    "detr": detr,
    "rt-detr": rt_detr,
    "mask2former": mask2former,
    "owlv2": owlv2,
    "grounding-dino": grounding_dino,
}


def make_detector(kind: str, folder: Path) -> Path:
    """Save a small random detector of a family into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    MAKERS[kind](folder)
    return folder
