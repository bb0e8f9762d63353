"""InternVL 2, 2.5 and 3 in the layout of their authors, whose repositories bring code of their own.

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

from t2v_eval.errors import CheckpointError

from ...flant5.checkpoint import pop_prefixed, read_weights
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
SEEING = (
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
    """A tower, a projector and a language model; a picture is seen in up to 12 tiles and whole."""

    network: Any = InternVLForConditionalGeneration

    @classmethod
    def matches(cls, config: ConfigJson) -> bool:
        return config.get("architectures") == ["InternVLChatModel"]

    def read(self, fetch: Fetch) -> None:
        flat = self.config_json
        seeing, text = (require(flat, f"{part}_config", self.folder) for part in ("vision", "llm"))
        self.language = (text.get("architectures") or ["none"])[0]
        if self.language not in LANGUAGE or flat.get("ps_version") != "v2":
            raise CheckpointError(
                f"{self.folder}: InternVL with the language model {self.language} and pixel "
                f"shuffle {flat.get('ps_version')!r} is not known here; with v2 and one of "
                f"{', '.join(LANGUAGE)} it would be"
            )
        kind, text = LANGUAGE[self.language], dict(text)
        if self.language == INTERNLM2:
            text["attention_bias"] = text.get("bias", False)
            text.pop("rope_scaling", None)  # it begins where the context ends
        language = kind(**config_arguments(kind, text))
        self.tokenizer = self.load_tokenizer(language)
        token_ids(self.tokenizer, [*TOKENS.values()][:3], self.folder)
        for role, token in TOKENS.items():
            setattr(self.tokenizer, f"{role}_token", token)
            setattr(self.tokenizer, f"{role}_token_id", self.tokenizer.convert_tokens_to_ids(token))
        self.side = flat.get("force_image_size") or seeing["image_size"]
        patch, ratio = seeing["patch_size"], require(flat, "downsample_ratio", self.folder)
        self.tokens = int((self.side // patch) ** 2 * ratio**2)
        vision = {
            **config_arguments(InternVLVisionConfig, seeing),
            "image_size": [self.side, self.side],
            "patch_size": [patch, patch],
            "attention_bias": seeing["qkv_bias"],
            "use_qk_norm": seeing["qk_normalization"],
        }
        self.config = InternVLConfig(
            text_config=language,
            vision_config=InternVLVisionConfig(**vision),
            image_token_id=self.tokenizer.context_image_token_id,
            image_seq_length=self.tokens,
            downsample_ratio=ratio,
            vision_feature_layer=flat["select_layer"],
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )

    def processor(self) -> Any:
        side = {"height": self.side, "width": self.side}
        images = GotOcr2ImageProcessorPil(size=side, image_mean=MEAN, image_std=STD)
        videos = InternVLFrameProcessor(size=side, image_mean=MEAN, image_std=STD)
        return InternVLProcessor(images, self.tokenizer, videos, image_seq_length=self.tokens)

    def tensors(self, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        found = read_weights(self.folder, device, dtype)
        made: dict[str, Tensor] = {}
        for name, tensor in pop_prefixed(found, "vision_model.").items():
            made |= self._seeing(name.removeprefix("vision_model."), tensor)
        for own, ours in PROJECTOR.items():
            for name, tensor in pop_prefixed(found, own).items():
                made[f"model.multi_modal_projector.{ours}{name.removeprefix(own)}"] = tensor
        for name, tensor in found.items():
            made |= self._reading(name.removeprefix("language_model."), tensor)
        return made

    def _seeing(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        place = f"model.vision_tower.{_renamed(name, SEEING)}"
        if ".qkv." not in place:
            return {place: tensor}
        return {
            place.replace("qkv", f"{p}_proj"): t
            for p, t in zip("qkv", tensor.chunk(3), strict=True)
        }

    def _reading(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        if name.startswith(("lm_head.", "output.")):
            return {"lm_head." + name.partition(".")[2]: tensor}
        place = f"model.language_model.{_renamed(name.removeprefix('model.'), INTERNLM2_NAMES)}"
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


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for own, ours in rules:
        name = re.sub(own, ours, name)
    return name
