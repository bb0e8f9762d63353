"""InternVL 2, 2.5 and 3 in the layout of their authors, without the code of their repositories.

Its language model is Qwen2, Llama, Phi-3 or InternLM2, which is Llama with the projections of
queries, keys and values in one matrix.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from ...common.weights import pop_prefixed, read_weights
from ..transformers_vision import InternVLFrameProcessor
from .base import ConfigJson, Fetch, Translated, config_arguments, require, token_ids

INTERNLM2 = "InternLM2ForCausalLM"
LANGUAGE: dict[str, Any] = {
    "Qwen2ForCausalLM": Qwen2Config,
    "LlamaForCausalLM": LlamaConfig,
    "Phi3ForCausalLM": Phi3Config,
    INTERNLM2: LlamaConfig,
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
TOKENS = {"start_image": "<img>", "end_image": "</img>", "context_image": "<IMG_CONTEXT>"}
TOKENS |= {"video": "<video>"}  # of which the processor makes frames, so that no prompt has it
PROJECTOR = {"mlp1.0.": "layer_norm.", "mlp1.1.": "linear_1.", "mlp1.3.": "linear_2."}
TOWER_NAMES = (
    (r"embeddings\.class_embedding", "embeddings.cls_token"),
    (r"embeddings\.position_embedding", "embeddings.position_embeddings"),
    (r"embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
    (r"encoder\.layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ls([12])$", r".lambda_\1"),
)
INTERNLM2_NAMES = (
    (r"^tok_embeddings\.", "embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
)


class InternVL(Translated):
    """A tower, a projector and a language model.

    An image is split into up to 12 tiles, and a thumbnail of the whole.

    >>> InternVL.matches({"architectures": ["InternVLChatModel"]})
    True
    """

    network: Any = InternVLForConditionalGeneration

    @classmethod
    @override
    def matches(cls, config: ConfigJson) -> bool:
        return config.get("architectures") == ["InternVLChatModel"]

    @override
    def read(self, fetch: Fetch) -> None:
        config = self.config_json
        vision_json = require(config, "vision_config", self.folder)
        text = require(config, "llm_config", self.folder)
        self.language = (text.get("architectures") or ["none"])[0]
        if self.language not in LANGUAGE or config.get("ps_version") != "v2":
            raise CheckpointError(
                f"{self.folder}: InternVL with the language model {self.language} and pixel "
                f"shuffle {config.get('ps_version')!r} is not known here; with v2 and one of "
                f"{', '.join(LANGUAGE)} it would be"
            )
        config_class, text = LANGUAGE[self.language], dict(text)
        if self.language == INTERNLM2:
            text["attention_bias"] = text.get("bias", False)
            text.pop("rope_scaling", None)  # it applies beyond the context only
        language = config_class(**config_arguments(config_class, text))
        self.tokenizer = self.load_tokenizer(language)
        token_ids(self.tokenizer, [*TOKENS.values()][:3], self.folder)
        for role, token in TOKENS.items():
            setattr(self.tokenizer, f"{role}_token", token)
            setattr(self.tokenizer, f"{role}_token_id", self.tokenizer.convert_tokens_to_ids(token))
        self.side = config.get("force_image_size") or vision_json["image_size"]
        patch, ratio = vision_json["patch_size"], require(config, "downsample_ratio", self.folder)
        self.tokens = int((self.side // patch) ** 2 * ratio**2)
        vision = {
            **config_arguments(InternVLVisionConfig, vision_json),
            "image_size": [self.side, self.side],
            "patch_size": [patch, patch],
            "attention_bias": vision_json["qkv_bias"],
            "use_qk_norm": vision_json["qk_normalization"],
        }
        self.config = InternVLConfig(
            text_config=language,
            vision_config=InternVLVisionConfig(**vision),
            image_token_id=self.tokenizer.context_image_token_id,
            image_seq_length=self.tokens,
            downsample_ratio=ratio,
            vision_feature_layer=config["select_layer"],
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )

    @override
    def processor(self) -> Any:
        side = {"height": self.side, "width": self.side}
        images = GotOcr2ImageProcessorPil(size=side, image_mean=MEAN, image_std=STD)
        videos = InternVLFrameProcessor(size=side, image_mean=MEAN, image_std=STD)
        return InternVLProcessor(images, self.tokenizer, videos, image_seq_length=self.tokens)

    @override
    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        weights = read_weights(self.folder, device, dtype)
        tensors: dict[str, Tensor] = {}
        for name, tensor in pop_prefixed(weights, "vision_model.").items():
            tensors |= self._rename_tower(name.removeprefix("vision_model."), tensor)
        for source, target in PROJECTOR.items():
            for name, tensor in pop_prefixed(weights, source).items():
                tensors[f"model.multi_modal_projector.{target}{name.removeprefix(source)}"] = tensor
        for name, tensor in weights.items():
            tensors |= self._rename_language(name.removeprefix("language_model."), tensor)
        return tensors

    def _rename_tower(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        place = f"model.vision_tower.{_apply_rules(name, TOWER_NAMES)}"
        if ".qkv." not in place:
            return {place: tensor}
        return {
            place.replace("qkv", f"{letter}_proj"): t
            for letter, t in zip("qkv", tensor.chunk(3), strict=True)
        }

    def _rename_language(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.startswith(("lm_head.", "output.")):
            return {"lm_head." + name.partition(".")[2]: tensor}
        place = f"model.language_model.{_apply_rules(name.removeprefix('model.'), INTERNLM2_NAMES)}"
        if ".attention.wqkv." not in place:
            return {place: tensor}
        # For each head of keys, the queries that share it, then its keys, then its values.
        text = self.config.text_config
        heads, width = text.num_key_value_heads, text.hidden_size // text.num_attention_heads
        grouped = tensor.view(heads, -1, width, *tensor.shape[1:])
        parts = {"q": grouped[:, :-2], "k": grouped[:, -2], "v": grouped[:, -1]}
        return {
            place.replace("attention.wqkv", f"self_attn.{part}_proj"): rows.reshape(
                -1, *tensor.shape[1:]
            )
            for part, rows in parts.items()
        }


def _apply_rules(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for source, target in rules:
        name = re.sub(source, target, name)
    return name
