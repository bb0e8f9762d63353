"""ImageReward: human preference, learnt from rankings of generated images.

Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
Generation", section 3; the standardisation is that of the authors' code. BLIP's text encoder
attends to the image, and five linear layers map its first token to a reward.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.weights import check_keys, read_tensors

from ..blip.bert_text import VOCABULARY_FILES, BertTextPairScorer
from ..blip.cross_attention import FusedKeysAndValues, build
from ..common.images import normalise, resize_center_crop, to_pixels
from ..common.tensors import resize_center_crop as resize_center_crop_pixels
from ..common.transformers_internals import blip_cross_attentions

WEIGHTS, CONFIG = "ImageReward.pt", "med_config.json"
FORMER_IDS = {"zai-org/ImageReward": "THUDM/ImageReward"}  # under which it may be cached
TOKENIZER = "google-bert/bert-base-uncased"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the rewards of the authors' data
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers.{}.{}"
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


class ImageReward(BertTextPairScorer):
    """Score the reward, standardised to mean 0 and deviation 1 over the authors' data.

    Args:
        checkpoint: a folder or hub id with ImageReward.pt and med_config.json, or that .pt file.
        tokenizer: the folder or hub id of BERT's tokenizer; by default ``bert-base-uncased`` beside
            the weights, or else the published one.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: the template has an answer.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("image-reward", checkpoint="/models/ImageReward")  # doctest: +SKIP
    >>> scorer("cat.jpg", ["a cat", "a dog"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    def __init__(
        self, checkpoint: str, tokenizer: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        location = self._find(checkpoint)
        file = location / WEIGHTS if location.is_dir() else location
        if not file.exists():
            raise CheckpointError(f"{location} holds no {WEIGHTS}")
        bert_folder = file.parent / "bert-base-uncased"
        source = tokenizer or (str(bert_folder) if bert_folder.is_dir() else TOKENIZER)
        tokenizer_folder = self.locate(
            source, VOCABULARY_FILES, argument="tokenizer", revision=None
        )
        text = _text_config(file.parent / CONFIG)
        vocabulary = self.set_tokenizer(tokenizer_folder, ["[DEC]", "[ENC]"], text.vocab_size)
        self.files = [file, file.parent / CONFIG, vocabulary]
        self._load(file, text)

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
        for weight, bias in self._head:
            hidden = linear(hidden, weight, bias)
        reward: Tensor = hidden[:, 0]
        return (reward - MEAN) / STD

    def _find(self, checkpoint: str) -> Path:
        """Locate the checkpoint; one renamed on the hub may be cached by its former id."""
        try:
            return self.locate(checkpoint, (WEIGHTS, CONFIG))
        except CheckpointError:
            if former := FORMER_IDS.get(checkpoint):
                try:
                    return self.locate(former, (WEIGHTS, CONFIG), local_files_only=True)
                except CheckpointError:
                    pass
            raise

    def _load(self, file: Path, text: Any) -> None:
        tensors = read_tensors(file)
        names = [HEAD.format(n, what) for n in (0, 2, 4, 6, 7) for what in ("weight", "bias")]
        check_keys(file, [name for name in (*names, *SHAPE_KEYS) if name not in tensors])
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
