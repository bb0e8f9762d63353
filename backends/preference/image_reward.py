"""ImageReward: what people prefer, learnt from ranked images of text-to-image models.

Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
Generation", section 3; the standardisation is that of the authors' code. BLIP's text encoder reads
the prompt while it looks at the image, and five linear layers make its first token a reward.
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

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.weights import check_keys, read_tensors

from ..blip.checkpoint import VOCABULARY, KeysAndValues, ReadingPairScorer, build
from ..common import tensors as _tensors
from ..common.images import normalise, resize_center_crop, to_pixels
from ..common.transformers_internals import blip_cross_attentions

WEIGHTS, CONFIG = "ImageReward.pt", "med_config.json"
FORMER = {"zai-org/ImageReward": "THUDM/ImageReward"}  # what a cache may still call it
TOKENIZER = "google-bert/bert-base-uncased"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the rewards of the authors' data
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers.{}.{}"
SIZES = [VISION + n for n in ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")]
STATED = [  # of the text encoder; the width of what it looks at is that of the vision tower
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

# Parts of the authors' names of the vision tower -> those of transformers, one after the other.
RENAMED = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
    "attn.proj.": "attn.projection.",
    ".attn.": ".self_attn.",
    VISION + "norm.": VISION + "post_layernorm.",
    ".norm": ".layer_norm",
}


class ImageReward(ReadingPairScorer):
    """Scores by the reward, which has mean 0 and deviation 1 over the authors' data.

    Args:
        checkpoint: a folder or hub id with ImageReward.pt and med_config.json, or that .pt file.
        tokenizer: the folder or hub id of BERT's tokenizer; by default ``bert-base-uncased`` beside
            the weights, or else the published one.
    """

    def __init__(
        self, checkpoint: str, tokenizer: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        found = self._find(checkpoint)
        file = found / WEIGHTS if found.is_dir() else found
        if not file.exists():
            raise CheckpointError(f"{found} holds no {WEIGHTS}")
        beside = file.parent / "bert-base-uncased"
        source = tokenizer or (str(beside) if beside.is_dir() else TOKENIZER)
        at = self.locate(source, VOCABULARY, argument="tokenizer", revision=None)
        text = _text_config(file.parent / CONFIG)
        vocabulary = self.set_reader(at, ["[DEC]", "[ENC]"], text.vocab_size)
        self.files = [file, file.parent / CONFIG, vocabulary]
        self._load(file, text)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The middle square, resized first and RGB then."""
        return to_pixels(resize_center_crop(image, self._side).convert("RGB"))

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return normalise(_tensors.resize_center_crop(pixels, self._side))

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Keys and values of all cross-attentions for each image."""
        hidden = self._vision(pixel_values=batch).last_hidden_state
        states: Tensor = self._keys_and_values(hidden.float())
        return states.unbind()

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ids, mask = self.read_filled(texts)
        hidden = self._look(torch.stack(list(states)), ids, mask)
        for weight, bias in self._head:
            hidden = linear(hidden, weight, bias)
        reward: Tensor = hidden[:, 0]
        return (reward - MEAN) / STD

    def _find(self, checkpoint: str) -> Path:
        """The checkpoint; one that moved on the hub is taken from the cache by its former name."""
        try:
            return self.locate(checkpoint, (WEIGHTS, CONFIG))
        except CheckpointError:
            if former := FORMER.get(checkpoint):
                try:
                    return self.locate(former, (WEIGHTS, CONFIG), local_files_only=True)
                except CheckpointError:
                    pass
            raise

    def _load(self, file: Path, text: Any) -> None:
        tensors = read_tensors(file)
        names = [HEAD.format(n, what) for n in (0, 2, 4, 6, 7) for what in ("weight", "bias")]
        check_keys(file, [name for name in (*names, *SIZES) if name not in tensors])
        head = [tensors[name].to(self.device, torch.float32) for name in names]
        self._head = list(zip(head[::2], head[1::2], strict=True))
        vision = _vision_config(tensors, text)
        text.encoder_hidden_size = vision.hidden_size
        self._side: int = vision.image_size
        self._vision = build(BlipVisionModel, vision, _part(tensors, VISION), file)
        self._text = build(BlipTextModel, text, _part(tensors, TEXT), file, add_pooling_layer=False)
        self._vision.to(self.device, self.dtype)
        self._text.to(self.device)  # is small and stays in float32
        ids = torch.ones(1, 2, dtype=torch.long, device=self.device)
        self._keys_and_values = KeysAndValues(
            lambda: blip_cross_attentions(self._text),
            lambda states: self._look(states, ids, ids),
            vision.hidden_size,
            self.device,
        )

    def _look(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What the first token of a text sees in the image (B, width)."""
        hidden: Tensor = self._text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=states
        ).last_hidden_state
        return hidden[:, 0]


def _text_config(file: Path) -> Any:
    try:
        stated = read_json(file)
        shape = {key: stated[key] for key in STATED}
        return BlipTextConfig(is_decoder=True, bos_token_id=None, **shape)
    except (OSError, ValueError, LookupError, TypeError, StrictDataclassError) as error:
        raise CheckpointError(f"{file} does not describe a BLIP text encoder: {error}") from error


def _vision_config(tensors: Mapping[str, Tensor], text: Any) -> Any:
    """The tower's shape as its weights have it; its heads are as wide as the text encoder's."""
    positions, patches, hidden = (tensors[name] for name in SIZES)
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


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below a prefix, by the names of transformers."""
    part = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            for theirs, ours in RENAMED.items():
                name = name.replace(theirs, ours)
            part[name.removeprefix(prefix)] = value
    return part
