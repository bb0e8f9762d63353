"""VideoPrism of the Hugging Face hub: the cosine of video and text.

Zhao et al. 2024, "VideoPrism: A Foundational Visual Encoder for Video Understanding", section 3.1:
the video-text model of its first stage. Network, tokenizer and video processor are those of
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import AutoModel
from typing_extensions import override

from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import fill

from ..common.transformers_internals import empty_weights
from .hub_scorer import HubVideoScorer


class VideoPrism(HubVideoScorer, EmbeddingScorer):
    """Score the cosine of video and text, from -1 to 1.

    Zhao et al. 2024, section 3.1, without the temperature. An image is a video of equal frames.

    Args:
        checkpoint: a folder or hub id with configuration, weights, tokenizer and video processor.
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or another number of frames than the model has positions
            for.

    >>> import t2v_eval
    >>> name, folder = "videoprism-lvt-base", "/models/videoprism"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    model_types = ("videoprism",)
    padding = "max_length"

    def __init__(self, checkpoint: str, **options: Any) -> None:
        super().__init__(**options)
        folder = self.open_folder(checkpoint)
        self.check_count(self.config.vision_config.num_frames)
        text = self.config.text_config
        self.open_tokenizer(folder, text.vocab_size, text.max_position_embeddings)
        self.open_processor(folder)
        with empty_weights():
            self.network = AutoModel.from_config(self.config)  # type: ignore[no-untyped-call]
        fill(self.network, self.read_weights(folder), folder)
        self.network.to(self.device, self.dtype)

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.get_video_features(batch).pooler_output
        return embeddings.flatten(1)

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.note_cut(texts)
        inputs = self.tokenize(texts)
        features = self.network.get_text_features(inputs.input_ids, inputs.attention_mask)
        embeddings: Tensor = features.pooler_output
        return embeddings
