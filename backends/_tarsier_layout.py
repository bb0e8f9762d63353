"""Tarsier2 in the layout of its authors: Qwen2-VL, its parts named as those of LLaVA.

A video is shown frame by frame (`FrameByFrame`).
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
    Qwen2VLVideoProcessor,
)
from transformers.image_utils import SizeDict
from transformers.models.qwen2_vl.configuration_qwen2_vl import (
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import smart_resize

from t2v_eval.errors import CheckpointError

from ._authors import Fetch, Flat, Translated, fact, known
from ._clip_flant5 import read_weights
from ._pillow_frames import ByPillow

NAMES = {
    "vision_tower.": "model.visual.",
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
}
MARKS = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]


class FrameByFrame(Qwen2VLVideoProcessor, ByPillow):
    """Two frames are read as one, and so each is given twice, as tarsier_processor.py of
    bytedance/tarsier does with `use_multi_images_for_video`.

    It is resized twice too: into the limit of pixels, which rounding to whole patches may then
    pass.
    """

    def patchify(self, videos: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return super().patchify(videos.repeat_interleave(2, 1), **options)

    def resize(  # type: ignore[override]
        self, videos: Tensor, size: Any, resample: Any, **options: Any
    ) -> Any:
        most, (height, width) = size.longest_edge, videos.shape[-2:]
        high, wide = smart_resize(height, width, factor=1, min_pixels=0, max_pixels=most)
        limited = ByPillow.resize(self, videos, SizeDict(high, wide))
        rounded = SizeDict(shortest_edge=size.shortest_edge, longest_edge=2 * most)
        return super().resize(limited, rounded, resample, **options)


class Tarsier(Translated):
    """Tarsier2; the first Tarsier has a projector of its own, which is not known here."""

    network: Any = Qwen2VLForConditionalGeneration

    @classmethod
    def fits(cls, flat: Flat) -> bool:
        return flat.get("architectures") == ["TarsierForConditionalGeneration"]

    def read(self, fetch: Fetch) -> None:
        text, vision = (fact(self.flat, f"{p}_config", self.folder) for p in ("text", "vision"))
        if "qwen2_vl" not in text.get("model_type", "") or self.flat.get("projection_head"):
            raise CheckpointError(
                f"{self.folder} is no Tarsier2: its language model is {text.get('model_type')!r} "
                f"behind the projector {self.flat.get('projection_head')!r}, not Qwen2-VL alone"
            )
        language = Qwen2VLTextConfig(**known(Qwen2VLTextConfig, text))
        self.tokenizer = self.words(language)
        image, video, start, end = self.tokenizer.convert_tokens_to_ids(MARKS)
        self.config = Qwen2VLConfig(
            text_config=language,
            vision_config=known(Qwen2VLVisionConfig, vision),
            image_token_id=image,
            video_token_id=video,
            vision_start_token_id=start,
            vision_end_token_id=end,
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )

    def processor(self) -> Any:
        vision = self.config.vision_config
        images = Qwen2VLImageProcessorPil(
            patch_size=vision.patch_size, merge_size=vision.spatial_merge_size
        )
        videos = FrameByFrame(patch_size=vision.patch_size, merge_size=vision.spatial_merge_size)
        processor: Any = Qwen2VLProcessor  # which has no types
        return processor(images, self.tokenizer, videos)

    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        made = {}
        for name, tensor in read_weights(self.folder, device, dtype).items():
            start = next((start for start in NAMES if name.startswith(start)), "")
            made[NAMES.get(start, "") + name.removeprefix(start)] = tensor
        return made
