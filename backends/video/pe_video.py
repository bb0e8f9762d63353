"""The video and text towers of PE-AV: the logit of a video and a text.

Vyas et al. 2025, "Pushing the Frontier of Audiovisual Perception with Large-Scale Multimodal
Correspondence Learning": Perception Encoder Audiovisual. A sigmoid loss trains the product of the
two embeddings, times a scale and plus a bias; as in the authors' code and in transformers, they are
not scaled to length 1. Network, tokenizer and video processor are those of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel
from typing_extensions import override

from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import fill

from ..common.transformers_internals import empty_weights
from .hub_scorer import HubVideoScorer

WITH_AUDIO = "pe_audio_video"
CONTEXT = 512  # tokens of a text that the authors' code reads
# How names of weights begin in a checkpoint with audio, and how here. Towers that several models
# share are saved once, under one of these names.
SHARED = {
    "video_model.": "",
    "text_model.": "text_model.",
    "audio_model.text_model.": "text_model.",
    "audio_video_encoder.embedder.video_encoder.": "video_encoder.",
}
OTHERS = ("audio_", "text_audio_", "video_plus_text_")  # weights that no video is scored with


class PeVideo(HubVideoScorer, EmbeddingScorer):
    """Score the logit of video and text, without bounds; its sigmoid is a probability.

    The product of the embeddings, times the scale and plus the bias of the model
    (`logits_video_text` of transformers). Any number of frames can be read.

    Args:
        checkpoint: a folder or hub id with configuration, weights, tokenizer and video processor,
            of PE-AV or of its video and text towers alone.
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention.

    >>> from t2v_eval.registry import models
    >>> models.card("pe-av-large").args["checkpoint"]
    'facebook/pe-av-large'
    """

    model_types = (WITH_AUDIO, "pe_video")
    fixed_count = False
    out_of_memory_hint = "fewer frames (`num_frames=`), a smaller dtype or another device"

    def __init__(self, checkpoint: str, **options: Any) -> None:
        super().__init__(**options)
        folder = self.open_folder(checkpoint)
        with_audio = self.config.model_type == WITH_AUDIO
        config = self.config.video_config if with_audio else self.config
        text = config.text_config
        self.open_tokenizer(folder, text.vocab_size, min(CONTEXT, text.max_position_embeddings))
        self.open_processor(folder)
        # transformers prints a note to its authors while it builds this class.
        with empty_weights(), redirect_stdout(StringIO()):
            self.network = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        fill(self.network, self.read_weights(folder), folder)
        self.network.to(self.device, self.dtype)

    @override
    def read_weights(self, folder: Path) -> dict[str, Tensor]:
        tensors = super().read_weights(folder)
        return video_weights(tensors) if self.config.model_type == WITH_AUDIO else tensors

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.video_head(
            self.network.video_encoder(batch).pooler_output
        )
        return embeddings

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.note_cut(texts)
        inputs = self.tokenize(texts)
        output = self.network.text_model(
            inputs.input_ids, inputs.attention_mask, output_hidden_states=True
        )
        embeddings: Tensor = self.network.text_video_head(output.hidden_states[-1][:, 0])
        return embeddings

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        network = self.network
        scale: Tensor = network.text_video_logit_scale.double().cpu()
        bias: Tensor = network.text_video_logit_bias.double().cpu()
        return images @ texts.T * scale + bias


def video_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the video and text towers of PE-AV, by the names of `PeVideoModel`.

    Args:
        tensors: all weights of a checkpoint with audio; a name that is not of this model stays.

    >>> names = "text_model.a", "video_model.video_head.b", "audio_model.audio_head.c", "other.d"
    >>> sorted(video_weights(dict.fromkeys(names, Tensor())))
    ['other.d', 'text_model.a', 'video_head.b']
    """
    named: dict[str, Tensor] = {}
    for prefix, renamed in SHARED.items():
        for name, value in tensors.items():
            if name.startswith(prefix):
                named.setdefault(renamed + name.removeprefix(prefix), value)
    prefixes = (*SHARED, *OTHERS)
    return named | {name: value for name, value in tensors.items() if not name.startswith(prefixes)}
