"""LLaVA in the layouts of its authors: a flat config.json that names the vision tower's repository.

LLaVA-1.5 and 1.6 are read as the same network in the layout of transformers, with one more row of
the vocabulary for the token that stands for a picture. LLaVA-OneVision and LLaVA-Video are read as
LLaVA-OneVision of transformers, but for newlines in videos (`PooledLlavaOnevision`).
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

from t2v_eval.errors import CheckpointError
from t2v_eval.local.weights import weight_files

from ...flant5.checkpoint import pop_prefixed, read_weights
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
    """LLaVA-1.5, whose CLIP tower is always that of its repository, and LLaVA-1.6, which has tuned
    it. Pictures are read whole, without the tiles of LLaVA-1.6, as t2v_metrics 3.0 reads them.
    """

    network: Any = LlavaForConditionalGeneration

    @classmethod
    def matches(cls, config: ConfigJson) -> bool:
        return "mm_vision_tower" in config

    def read(self, fetch: Fetch) -> None:
        flat = self.config_json
        if flat.get("mm_projector_type") != "mlp2x_gelu" or "mm_vision_select_layer" not in flat:
            raise CheckpointError(f"{self.folder} is no LLaVA: its config.json has no mlp2x_gelu")
        self.processor_folder = fetch(flat["mm_vision_tower"])
        self.tuned = "mm_patch_merge_type" in flat and flat.get("unfreeze_mm_vision_tower", False)
        self.files = sorted(self.processor_folder.glob("*config.json"))
        self.files += [] if self.tuned else weight_files(self.processor_folder)
        try:
            vision = CLIPVisionConfig.from_pretrained(self.processor_folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"vision_tower {self.processor_folder} describes no CLIP tower: {error}"
            ) from error
        words = require(flat, "vocab_size", self.folder)
        text = config_arguments(LlamaConfig, flat)
        whole = flat.get("mm_vision_select_feature") == "cls_patch"
        self.config = LlavaConfig(
            text_config=LlamaConfig.from_dict({**text, "vocab_size": words + 1}),
            vision_config=vision,
            image_token_index=words,
            vision_feature_layer=flat["mm_vision_select_layer"],
            vision_feature_select_strategy="full" if whole else "default",
            tie_word_embeddings=False,
        )

    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        found = read_weights(self.folder, device, dtype)
        seeing = pop_prefixed(found, OWN_TOWER)
        if not self.tuned:
            seeing = read_weights(self.processor_folder, device, dtype)
        found.pop("model.image_newline", None)  # between tiles, of which there are none
        made = _renamed(found)
        for name in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
            made[name] = _longer(made[name])
        return made | _tower(seeing)


class LlavaQwen(Translated):
    """LLaVA-OneVision and LLaVA-Video: a SigLIP tower of which the last layer is left out."""

    network: Any = PooledLlavaOnevisionForConditionalGeneration

    @classmethod
    def matches(cls, config: ConfigJson) -> bool:
        return (
            config.get("architectures") == ["LlavaQwenForCausalLM"] and "mm_vision_tower" in config
        )

    def read(self, fetch: Fetch) -> None:
        flat = self.config_json
        merged, tiles = flat.get("mm_patch_merge_type"), flat.get("image_aspect_ratio", "")
        if merged != "spatial_unpad" or not tiles.startswith("anyres_max_"):
            raise CheckpointError(
                f"{self.folder} is no LLaVA-OneVision or LLaVA-Video: its pictures are "
                f"{tiles!r} with {merged!r} instead of 'anyres_max_9' with 'spatial_unpad'"
            )
        pooling = self._video("mm_spatial_pool_mode", "bilinear", POOLING)
        newlines = self._video("mm_newline_position", "one_token", NEWLINES)
        self.processor_folder = fetch(flat["mm_vision_tower"])
        self.files = sorted(self.processor_folder.glob("*config.json"))
        vision = SiglipVisionConfig.from_pretrained(self.processor_folder)
        vision.num_hidden_layers -= 1
        vision.vision_use_head = False
        text = Qwen2Config(**config_arguments(Qwen2Config, flat))
        self.tokenizer = self.load_tokenizer(text)
        self.tokenizer.add_tokens(["<image>", "<video>"], special_tokens=True)
        image, video = self.tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
        self.config = LlavaOnevisionConfig(
            text_config=text,
            vision_config=vision,
            image_token_index=image,
            video_token_index=video,
            image_grid_pinpoints=require(flat, "image_grid_pinpoints", self.folder),
            vision_aspect_ratio=tiles,
            tie_word_embeddings=flat.get("tie_word_embeddings", False),
        )
        self.config.pooling, self.config.newlines = pooling, newlines

    def processor(self) -> Any:
        vision, side = self.config.vision_config, self.config.vision_config.image_size
        size = {"height": side, "width": side}
        images = LlavaOnevisionImageProcessorPil.from_pretrained(
            self.processor_folder, size=size, image_grid_pinpoints=self.config.image_grid_pinpoints
        )
        videos = LlavaOnevisionFrameProcessor(
            size=size, image_mean=images.image_mean, image_std=images.image_std
        )
        processor: Any = PooledLlavaOnevisionProcessor  # which has no types
        made = processor(
            images,
            self.tokenizer,
            videos,
            num_image_tokens=(side // vision.patch_size) ** 2,
            vision_feature_select_strategy="full",
            vision_aspect_ratio=self.config.vision_aspect_ratio,
        )
        made.config = self.config
        return made

    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        found = read_weights(self.folder, device, dtype)
        seeing = pop_prefixed(found, OWN_TOWER)
        pop_prefixed(seeing, f"{OWN_TOWER}vision_tower.vision_model.head.")
        newline = found.pop("model.image_newline")
        return _renamed(found) | _tower(seeing) | {"model.image_newline": newline}

    def _video(self, name: str, usual: str, known: Mapping[str, Any]) -> str:
        """What config.json says of videos.

        Raises:
            CheckpointError: something that the authors' code does not know either.
        """
        said: str = self.config_json.get(name, usual)
        if said not in known:
            raise CheckpointError(
                f"{self.folder}: its config.json has {name}={said!r}; use {' or '.join(known)}"
            )
        return said


def _renamed(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Projector and language model as transformers names them."""
    made = {}
    for name, tensor in found.items():
        start = next((start for start in PROJECTOR if name.startswith(start)), "model.")
        place = "model.language_model." if start == "model." else "model.multi_modal_projector."
        place = "" if name.startswith("lm_head.") else place + PROJECTOR.get(start, "")
        made[place + name.removeprefix(start)] = tensor
    return made


def _tower(seeing: dict[str, Tensor]) -> dict[str, Tensor]:
    """A vision tower, of a repository of its own or of a checkpoint, as transformers names it."""
    seeing = {n: t for n, t in seeing.items() if "vision_model." in n} or seeing
    named = {name.rpartition("vision_model.")[2]: tensor for name, tensor in seeing.items()}
    named.pop("embeddings.position_ids", None)
    return {f"model.vision_tower.{name}": tensor for name, tensor in named.items()}


def _longer(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
