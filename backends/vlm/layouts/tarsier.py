"""Tarsier2 in the layout of its authors: Qwen2-VL with weights named as in LLaVA.

The frames of a video are not merged in pairs (`TarsierFrameProcessor`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from ...common.weights import read_weights
from ..transformers_vision import TarsierFrameProcessor
from .base import ConfigJson, Fetch, Translated, config_arguments, require, token_ids

NAMES = {
    "vision_tower.": "model.visual.",
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
}
SPECIAL_TOKENS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


class Tarsier(Translated):
    """Tarsier2; the first Tarsier, which has another projector, is refused.

    >>> Tarsier.matches({"architectures": ["TarsierForConditionalGeneration"]})
    True
    """

    network: Any = Qwen2VLForConditionalGeneration

    @classmethod
    @override
    def matches(cls, config: ConfigJson) -> bool:
        return config.get("architectures") == ["TarsierForConditionalGeneration"]

    @override
    def read(self, fetch: Fetch) -> None:
        config = self.config_json
        text = require(config, "text_config", self.folder)
        vision = require(config, "vision_config", self.folder)
        if "qwen2_vl" not in text.get("model_type", "") or config.get("projection_head"):
            raise CheckpointError(
                f"{self.folder} is no Tarsier2: its language model is {text.get('model_type')!r} "
                f"behind the projector {config.get('projection_head')!r}, not Qwen2-VL alone"
            )
        language = Qwen2VLTextConfig(**config_arguments(Qwen2VLTextConfig, text))
        self.tokenizer = self.load_tokenizer(language)
        image, video, start, end = token_ids(self.tokenizer, SPECIAL_TOKENS, self.folder)
        self.config = Qwen2VLConfig(
            text_config=language,
            vision_config=config_arguments(Qwen2VLVisionConfig, vision),
            image_token_id=image,
            video_token_id=video,
            vision_start_token_id=start,
            vision_end_token_id=end,
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )

    @override
    def processor(self) -> Any:
        vision = self.config.vision_config
        images = Qwen2VLImageProcessorPil(
            patch_size=vision.patch_size, merge_size=vision.spatial_merge_size
        )
        videos = TarsierFrameProcessor(
            patch_size=vision.patch_size, merge_size=vision.spatial_merge_size
        )
        processor: Any = Qwen2VLProcessor  # which has no types
        return processor(images, self.tokenizer, videos)

    @override
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        tensors = {}
        for name, tensor in read_weights(self.folder, device, dtype).items():
            start = next((start for start in NAMES if name.startswith(start)), "")
            tensors[NAMES.get(start, "") + name.removeprefix(start)] = tensor
        return tensors
