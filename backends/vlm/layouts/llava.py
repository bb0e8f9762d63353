"""LLaVA in the layouts of its authors: a flat config.json that names the vision tower's repository.

LLaVA-1.5 and 1.6 are read as the same network of transformers, with one more row of the vocabulary
for the image token. LLaVA-OneVision and LLaVA-Video are read as LLaVA-OneVision of transformers
with other pooling and newlines in videos (`PooledLlavaOnevision`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessorPil,
    Qwen2Config,
    SiglipVisionConfig,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.weights import weight_files

from ...common.weights import pop_prefixed, read_weights
from ..transformers_vision import (
    NEWLINES,
    POOLING,
    LlavaOnevisionFrameProcessor,
    PooledLlavaOnevisionForConditionalGeneration,
    PooledLlavaOnevisionProcessor,
)
from .base import ConfigJson, Fetch, Translated, config_arguments, require

PROJECTOR = {"model.mm_projector.0.": "linear_1.", "model.mm_projector.2.": "linear_2."}
OWN_TOWER = "model.vision_tower."


class Llava(Translated):
    """LLaVA-1.5 and LLaVA-1.6.

    The CLIP tower of LLaVA-1.5 is that of its own repository; LLaVA-1.6 has fine-tuned it. Images
    are read whole, without the tiles of LLaVA-1.6, as t2v_metrics 3.0 reads them.

    >>> Llava.matches({"mm_vision_tower": "openai/clip-vit-large-patch14-336"})
    True
    """

    network: Any = LlavaForConditionalGeneration

    @classmethod
    @override
    def matches(cls, config: ConfigJson) -> bool:
        return "mm_vision_tower" in config

    @override
    def read(self, fetch: Fetch) -> None:
        config = self.config_json
        has_layer = "mm_vision_select_layer" in config
        if config.get("mm_projector_type") != "mlp2x_gelu" or not has_layer:
            raise CheckpointError(f"{self.folder} is no LLaVA: its config.json has no mlp2x_gelu")
        self.processor_folder = fetch(config["mm_vision_tower"])
        unfrozen = config.get("unfreeze_mm_vision_tower", False)
        self.tuned = "mm_patch_merge_type" in config and unfrozen
        self.files = sorted(self.processor_folder.glob("*config.json"))
        self.files += [] if self.tuned else weight_files(self.processor_folder)
        try:
            vision = CLIPVisionConfig.from_pretrained(self.processor_folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"vision_tower {self.processor_folder} describes no CLIP tower: {error}"
            ) from error
        vocab_size = require(config, "vocab_size", self.folder)
        text = config_arguments(LlamaConfig, config)
        has_class_token = config.get("mm_vision_select_feature") == "cls_patch"
        self.config = LlavaConfig(
            text_config=LlamaConfig.from_dict({**text, "vocab_size": vocab_size + 1}),
            vision_config=vision,
            image_token_index=vocab_size,
            vision_feature_layer=config["mm_vision_select_layer"],
            vision_feature_select_strategy="full" if has_class_token else "default",
            tie_word_embeddings=False,
        )

    @override
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        weights = read_weights(self.folder, device, dtype)
        tower = pop_prefixed(weights, OWN_TOWER)
        if not self.tuned:
            tower = read_weights(self.processor_folder, device, dtype)
        weights.pop("model.image_newline", None)  # between tiles, of which there are none
        tensors = _rename_weights(weights)
        for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
            tensors[name] = _append_row(tensors[name])
        return tensors | _rename_tower(tower)


class LlavaQwen(Translated):
    """LLaVA-OneVision and LLaVA-Video, with a SigLIP tower without its last layer.

    >>> tower = "google/siglip-so400m-patch14-384"
    >>> LlavaQwen.matches({"architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": tower})
    True
    """

    network: Any = PooledLlavaOnevisionForConditionalGeneration

    @classmethod
    @override
    def matches(cls, config: ConfigJson) -> bool:
        return (
            config.get("architectures") == ["LlavaQwenForCausalLM"] and "mm_vision_tower" in config
        )

    @override
    def read(self, fetch: Fetch) -> None:
        config = self.config_json
        patch_merge, tiles = config.get("mm_patch_merge_type"), config.get("image_aspect_ratio", "")
        if patch_merge != "spatial_unpad" or not tiles.startswith("anyres_max_"):
            raise CheckpointError(
                f"{self.folder} is no LLaVA-OneVision or LLaVA-Video: its images are "
                f"{tiles!r} with {patch_merge!r} instead of 'anyres_max_9' with 'spatial_unpad'"
            )
        pooling = self._video_choice("mm_spatial_pool_mode", "bilinear", POOLING)
        newlines = self._video_choice("mm_newline_position", "one_token", NEWLINES)
        self.processor_folder = fetch(config["mm_vision_tower"])
        self.files = sorted(self.processor_folder.glob("*config.json"))
        vision = SiglipVisionConfig.from_pretrained(self.processor_folder)
        vision.num_hidden_layers -= 1
        vision.vision_use_head = False
        text = Qwen2Config(**config_arguments(Qwen2Config, config))
        self.tokenizer = self.load_tokenizer(text)
        self.tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
        image, video = self.tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
        self.config = LlavaOnevisionConfig(
            text_config=text,
            vision_config=vision,
            image_token_index=image,
            video_token_index=video,
            image_grid_pinpoints=require(config, "image_grid_pinpoints", self.folder),
            vision_aspect_ratio=tiles,
            tie_word_embeddings=config.get("tie_word_embeddings", False),
        )
        self.config.pooling, self.config.newlines = pooling, newlines

    @override
    def processor(self) -> Any:
        vision, side = self.config.vision_config, self.config.vision_config.image_size
        size = {"height": side, "width": side}
        images = LlavaOnevisionImageProcessorPil.from_pretrained(
            self.processor_folder, size=size, image_grid_pinpoints=self.config.image_grid_pinpoints
        )
        videos = LlavaOnevisionFrameProcessor(
            size=size, image_mean=images.image_mean, image_std=images.image_std
        )
        processor_class: Any = PooledLlavaOnevisionProcessor  # which has no types
        processor = processor_class(
            images,
            self.tokenizer,
            videos,
            num_image_tokens=(side // vision.patch_size) ** 2,
            vision_feature_select_strategy="full",
            vision_aspect_ratio=self.config.vision_aspect_ratio,
        )
        processor.config = self.config
        return processor

    @override
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        weights = read_weights(self.folder, device, dtype)
        tower = pop_prefixed(weights, OWN_TOWER)
        pop_prefixed(tower, f"{OWN_TOWER}vision_tower.vision_model.head.")
        newline = weights.pop("model.image_newline")
        return _rename_weights(weights) | _rename_tower(tower) | {"model.image_newline": newline}

    def _video_choice(self, name: str, default: str, choices: Mapping[str, Any]) -> str:
        """Return a setting of config.json for videos.

        Raises:
            CheckpointError: a value that the authors' code does not have either.
        """
        value: str = self.config_json.get(name, default)
        if value not in choices:
            raise CheckpointError(
                f"{self.folder}: its config.json has {name}={value!r}; use {' or '.join(choices)}"
            )
        return value


def _rename_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the projector and the language model as in transformers."""
    tensors = {}
    for name, tensor in weights.items():
        start = next((start for start in PROJECTOR if name.startswith(start)), "model.")
        place = "model.language_model." if start == "model." else "model.multi_modal_projector."
        place = "" if name.startswith("lm_head.") else place + PROJECTOR.get(start, "")
        tensors[place + name.removeprefix(start)] = tensor
    return tensors


def _rename_tower(tower: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a vision tower, of its own repository or of a checkpoint, as in transformers."""
    tower = {n: t for n, t in tower.items() if "vision_model." in n} or tower
    renamed = {name.rpartition("vision_model.")[2]: tensor for name, tensor in tower.items()}
    renamed.pop("embeddings.position_ids", None)
    return {f"model.vision_tower.{name}": tensor for name, tensor in renamed.items()}


def _append_row(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
