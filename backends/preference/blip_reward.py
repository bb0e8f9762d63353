"""Rewards by BLIP: its text encoder attends to the image, and linear layers rate its first token.

Layout of the weights of ImageReward and of what was trained from its code.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.weights import check_keys

from ..blip.bert_text import VOCABULARY_FILES, BertTextPairScorer
from ..blip.cross_attention import FusedKeysAndValues, build
from ..common.images import normalise, resize_center_crop, to_pixels
from ..common.tensors import resize_center_crop as resize_center_crop_pixels
from ..common.transformers_internals import blip_cross_attentions

CONFIG = "med_config.json"
TOKENIZER = "google-bert/bert-base-uncased"
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers."
SHAPE_KEYS = [
    VISION + n for n in ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
]
CONFIG_KEYS = [  # of the text encoder; its cross-attention is as wide as the vision tower
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "pad_token_id",
]

# Renames the weights of the vision tower to transformers' names, in this order.
RENAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
    "attn.proj.": "attn.projection.",
    ".attn.": ".self_attn.",
    VISION + "norm.": VISION + "post_layernorm.",
    ".norm": ".layer_norm",
}


class BlipReward(BertTextPairScorer[Tensor]):
    """BLIP with a head of linear layers; subclasses call `set_network` and write `rate`.

    Attributes:
        layers: numbers of the linear layers of the head in the checkpoint.

    >>> from t2v_eval.backends.preference.image_reward import ImageReward
    >>> ImageReward.layers, ImageReward.max_tokens
    ((0, 2, 4, 6, 7), 35)
    """

    layers: ClassVar[tuple[int, ...]]

    def set_network(
        self, file: Path, tensors: Mapping[str, Tensor], config: Path, tokenizer: str | None
    ) -> None:
        """Build the network and its tokenizer.

        Args:
            file: where the weights are from.
            tensors: the weights by name.
            config: describes the text encoder.
            tokenizer: the folder or hub id of BERT's tokenizer; by default ``bert-base-uncased``
                beside the weights, or else the published one.

        Raises:
            CheckpointError: a file is missing, or the files do not belong to one model.
        """
        text = _text_config(config)
        bert_folder = file.parent / "bert-base-uncased"
        source = tokenizer or (str(bert_folder) if bert_folder.is_dir() else TOKENIZER)
        tokenizer_folder = self.locate(
            source, VOCABULARY_FILES, argument="tokenizer", revision=None
        )
        vocabulary = self.set_tokenizer(tokenizer_folder, ["[DEC]", "[ENC]"], text.vocab_size)
        self.files = [file, config, vocabulary]
        self._load(file, tensors, text)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the centre square, resized before it is converted to RGB."""
        return to_pixels(resize_center_crop(image, self._side).convert("RGB"))

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return normalise(resize_center_crop_pixels(pixels, self._side))

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the keys and values of all cross-attentions for each image."""
        hidden = self._vision(pixel_values=batch).last_hidden_state
        states: Tensor = self._keys_and_values(hidden.float())
        return states.unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokenize_filled(texts)
        hidden = self._cross_attend(torch.stack(list(states)), ids, mask)
        return self.rate(hidden, self._head)

    @abstractmethod
    def rate(self, hidden: Tensor, head: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the rewards (B,) of states (B, width) by the weights and biases of the head."""

    def _load(self, file: Path, tensors: Mapping[str, Tensor], text: Any) -> None:
        names = [f"{HEAD}{n}.{what}" for n in self.layers for what in ("weight", "bias")]
        check_keys(
            file,
            [name for name in (*names, *SHAPE_KEYS) if name not in tensors],
            [name for name in tensors if name.startswith(HEAD) and name not in names],
        )
        head = [tensors[name].to(self.device, torch.float32) for name in names]
        self._head = list(zip(head[::2], head[1::2], strict=True))
        vision = _vision_config(tensors, text)
        text.encoder_hidden_size = vision.hidden_size
        self._side: int = vision.image_size
        self._vision = build(BlipVisionModel, vision, _tower_weights(tensors, VISION), file)
        self._text = build(
            BlipTextModel, text, _tower_weights(tensors, TEXT), file, add_pooling_layer=False
        )
        self._vision.to(self.device, self.dtype)
        self._text.to(self.device)  # small, so it stays in float32
        ids = torch.ones(1, 2, dtype=torch.long, device=self.device)
        self._keys_and_values = FusedKeysAndValues(
            lambda: blip_cross_attentions(self._text),
            lambda states: self._cross_attend(states, ids, ids),
            vision.hidden_size,
            self.device,
        )

    def _cross_attend(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the first token's state (B, width) after cross-attention to the image."""
        hidden: Tensor = self._text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=states
        ).last_hidden_state
        return hidden[:, 0]


def _text_config(file: Path) -> Any:
    try:
        config = read_json(file)
        shape = {key: config[key] for key in CONFIG_KEYS}
        return BlipTextConfig(is_decoder=True, bos_token_id=None, **shape)
    except (OSError, ValueError, LookupError, TypeError, StrictDataclassError) as error:
        raise CheckpointError(f"{file} does not describe a BLIP text encoder: {error}") from error


def _vision_config(tensors: Mapping[str, Tensor], text: Any) -> Any:
    """Infer the vision tower's configuration; its heads are as wide as the text encoder's."""
    positions, patches, hidden = (tensors[name] for name in SHAPE_KEYS)
    width, patch = patches.shape[0], patches.shape[-1]
    layers = {name.split(".")[3] for name in tensors if name.startswith(VISION + "blocks.")}
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=hidden.shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=width * text.num_attention_heads // text.hidden_size,
        image_size=math.isqrt(positions.shape[1] - 1) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def _tower_weights(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights below a prefix by transformers' names."""
    part = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            for old, new in RENAMES.items():
                name = name.replace(old, new)
            part[name.removeprefix(prefix)] = value
    return part
