"""VideoScore: five ratings of a generated video, by a vision-language model with a linear head.

He et al. 2024, "VideoScore: Building Automatic Metrics to Simulate Fine-grained Human Feedback for
Video Generation", section 4. Idefics2 reads an instruction with the prompt of the video, then its
frames; a linear layer on the state of the last token gives the ratings
(`Idefics2ForSequenceClassification` of mantis/models/idefics2 in TIGER-AI-Lab/Mantis).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError, ScoringError
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import check_keys, fill

from ..common.aspects import AspectScorer
from ..common.processors import check_vocabulary, read_image_processor, read_processor
from ..common.transformers_internals import empty_weights
from .hub_scorer import HubVideoScorer

# What the rows of the head rate, in the order of the authors.
ASPECTS = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)
HEAD = ("score.weight", "score.bias")
FRAMES_AT_ONCE = 4  # frames that the vision encoder reads together: each has thousands of patches


class VideoScore(HubVideoScorer, AspectScorer):
    """Score one aspect of a video, about 1 (bad) to 4 (perfect); `explain` gives all five.

    He et al. 2024, section 4. An image is a video of one frame.

    Args:
        checkpoint: a folder or hub id with configuration, weights and processor.
        aspect: one of `ASPECTS`, or "mean" for the mean of all.
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown aspect or convention.

    >>> VideoScore.default_template
    'videoscore'
    """

    aspects = ASPECTS
    joined = "mean"
    model_types = ("idefics2",)
    default_template = "videoscore"
    fixed_count = False
    out_of_memory_hint = "fewer frames (`num_frames=`), a smaller dtype or another device"

    def __init__(
        self, checkpoint: str, aspect: str = "text-to-video alignment", **options: Any
    ) -> None:
        super().__init__(**options)
        self.choose_aspect(aspect)
        folder = self.open_folder(checkpoint)
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        self.open_processor(folder)
        self._load(folder)

    @override
    def open_processor(self, folder: Path) -> None:
        self.processor = read_processor(folder, self.config, trust_remote_code=False)
        self.processor.image_processor = read_image_processor(folder, self.config)
        # As in training, whatever the file says: parts of a frame would be frames of their own.
        self.processor.image_processor.do_image_splitting = False
        self.tokenizer = self.processor.tokenizer
        rows = self.config.text_config.vocab_size
        check_vocabulary(self.tokenizer, rows, folder, [self.processor.image_token_id])

    @override
    def frame_inputs(self, frame: Image.Image) -> Tensor:
        inputs = self.processor.image_processor([[frame]], return_tensors="pt")
        prepared: Tensor = inputs.pixel_values[0]
        return prepared

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the tokens (T, L, width) of the frames of each video."""
        frames: Any = batch.flatten(0, 1)
        tokens = torch.cat([self._frame_tokens(part) for part in frames.split(FRAMES_AT_ONCE)])
        return tokens.view(*batch.shape[:2], -1, tokens.shape[-1]).unbind()

    def _frame_tokens(self, frames: Tensor) -> Tensor:
        """Return the tokens (T x L, width) of frames (T, 3, H, W), one after the other."""
        tokens: Tensor = self.network.get_image_features(frames[None]).pooler_output[0]
        return tokens

    @override
    def rate(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Rate P pairs of the tokens of a video and a text.

        Returns:
            (P, 5) float32 ratings, in the order of `ASPECTS`.

        Raises:
            ScoringError: a text holds the token that stands for a frame.
        """
        rows = [self._embeddings(*pair) for pair in zip(states, texts, strict=True)]
        # Padding comes last, where causal attention hides it.
        padded = pad_sequence(rows, batch_first=True)
        hidden = self.network.text_model(inputs_embeds=padded, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(rows)), [len(row) - 1 for row in rows]]
        return linear(last.float(), *self._head)

    @override
    def join(self, ratings: Tensor) -> Tensor:
        """Return the means (P,) of ratings (P, 5)."""
        return ratings.mean(1)

    def _embeddings(self, frames: Tensor, text: str) -> Tensor:
        """Return the inputs (L, width) of the language model for the frames of a video."""
        token = self.processor.image_token
        if token in text:
            raise ScoringError(f"the text {text[:60]!r} holds {token!r}, which stands for a frame")
        prompt = self.template.fill(text)[0] + f"{token} " * len(frames)
        ids = self.processor(text=prompt, return_tensors="pt").input_ids[0].to(self.device)
        embeddings: Tensor = self.network.get_input_embeddings()(ids).clone()
        embeddings[ids == self.processor.image_token_id] = frames.flatten(0, 1)
        return embeddings

    def _load(self, folder: Path) -> None:
        tensors = self.read_weights(folder)
        check_keys(folder, [name for name in HEAD if name not in tensors])
        head = [tensors.pop(name).to(self.device, torch.float32) for name in HEAD]
        if len(head[0]) != len(ASPECTS):
            raise CheckpointError(
                f"{folder} has a head of {len(head[0])} ratings, and VideoScore of {len(ASPECTS)}"
            )
        self._head = head
        with empty_weights():
            self.network = AutoModel.from_config(self.config)  # type: ignore[no-untyped-call]
        weights = {
            name.removeprefix("model."): value.to(self.device, self.dtype)
            for name, value in tensors.items()
        }
        fill(self.network, weights, folder)
        self.network.to(self.device)
