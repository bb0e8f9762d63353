"""VideoPrism of the Hugging Face hub: the cosine of video and text.

Zhao et al. 2024, "VideoPrism: A Foundational Visual Encoder for Video Understanding", section 3.1:
the video-text model of its first stage. Network, tokenizer and video processor are those of
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor  # type: ignore[import-untyped]
from transformers import AutoConfig, AutoModel, AutoTokenizer, AutoVideoProcessor
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.video import Clip
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import fill, read_tensors, weight_files

from ..common.pretrained import load_pretrained
from ..common.processors import check_vocabulary
from .video_scorer import VideoScorer

MODEL_TYPE = "videoprism"


class VideoPrism(VideoScorer, EmbeddingScorer):
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

    resizes = ("processor",)

    def __init__(self, checkpoint: str, **options: Any) -> None:
        super().__init__(**options)
        folder = self.locate(checkpoint)
        config = load_pretrained(AutoConfig, folder, "VideoPrism")
        if config.model_type != MODEL_TYPE:
            raise CheckpointError(
                f"{folder} holds a model of type {config.model_type!r}, not {MODEL_TYPE!r}"
            )
        if self.num_frames != config.vision_config.num_frames:
            raise InputError(
                f"`frames={self.num_frames}`: {self.name!r} has positions for "
                f"{config.vision_config.num_frames} frames"
            )
        self.tokenizer = load_pretrained(AutoTokenizer, folder, "VideoPrism")
        self.processor = load_pretrained(AutoVideoProcessor, folder, "VideoPrism")
        text = config.text_config
        self.context = text.max_position_embeddings
        check_vocabulary(self.tokenizer, text.vocab_size, folder, self.tokenizer("").input_ids)
        with init_empty_weights(include_buffers=False):
            self.network = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        fill(self.network, read_tensors(folder), folder)
        self.network.to(self.device, self.dtype)
        described = [file for s in ("json", "txt", "model") for file in folder.glob(f"*.{s}")]
        self.files = [*weight_files(folder), *sorted(described)]

    @override
    def fit(self, frame: Image.Image) -> Image.Image:
        """Return the frame as it is: the video processor resizes it."""
        return frame

    @override
    def preprocess(self, image: Image.Image | Clip) -> Tensor:
        """Return the frames (T, 3, H, W) of a video; one frame or an image is repeated."""
        frames = image.frames if isinstance(image, Clip) else [image.convert("RGB")]
        pixels = [self._frame_inputs(frame) for frame in frames]
        return torch.cat(pixels if len(pixels) > 1 else pixels * self.num_frames)

    def _frame_inputs(self, frame: Image.Image) -> Tensor:
        """Return the inputs (1, 3, H, W) of a frame; those of a video may differ in size."""
        video = pil_to_tensor(frame)[None]
        inputs = self.processor(videos=[video], do_sample_frames=False, return_tensors="pt")
        prepared: Tensor = inputs.pixel_values_videos[0]
        return prepared

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.get_video_features(batch).pooler_output
        return embeddings.flatten(1)

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        read = [self.as_read(text) for text in texts]
        lengths = [len(self.tokenizer(text, verbose=False).input_ids) for text in read]
        self.note_truncated(
            text for text, length in zip(texts, lengths, strict=True) if length > self.context
        )
        inputs = self.tokenizer(
            read,
            padding="max_length",
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self.device)
        features = self.network.get_text_features(inputs.input_ids, inputs.attention_mask)
        embeddings: Tensor = features.pooler_output
        return embeddings
