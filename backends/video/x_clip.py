"""X-CLIP of the Hugging Face hub: the cosine of a video and a text that has seen it.

Ni et al. 2022, "Expanding Language-Image Pretrained Models for General Video Recognition", sections
3.2 and 3.3: attention between frames inside the vision encoder, a transformer over frames, and a
prompt generator, which adds to the embedding of a text what it finds of it in the video. So a text
has another embedding beside each video. Network, tokenizer and processor are those of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoModel
from typing_extensions import override

from t2v_eval.local.weights import fill

from ..common.processors import read_image_processor
from ..common.question_only import QuestionOnlyScorer
from ..common.transformers_internals import empty_weights
from .hub_scorer import HubVideoScorer


class XClip(HubVideoScorer, QuestionOnlyScorer):
    """Score the cosine of a video and a text that has seen it, from -1 to 1.

    Ni et al. 2022, equation 8 with the prompts of section 3.3, without the temperature, by which
    transformers multiplies it (`logits_per_video`). An image is a video of equal frames.

    Args:
        checkpoint: a folder or hub id with configuration, weights, tokenizer and image processor.
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or another number of frames than the model has positions
            for.

    >>> from t2v_eval.registry import models
    >>> models.card("xclip-base-patch32").args["checkpoint"]
    'microsoft/xclip-base-patch32'
    """

    model_types = ("xclip",)

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
    def read_weights(self, folder: Path) -> dict[str, Tensor]:
        # Older versions of transformers saved the numbers of positions, too.
        tensors = super().read_weights(folder)
        return {name: t for name, t in tensors.items() if not name.endswith("position_ids")}

    @override
    def open_processor(self, folder: Path) -> None:
        self.processor = read_image_processor(folder, self.config)

    @override
    def frame_inputs(self, frame: Image.Image) -> Tensor:
        pixels: Tensor = self.processor([frame], return_tensors="pt").pixel_values
        return pixels.flatten(0, -4)

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the embedding (D) of each video above its visual tokens: (1 + P, D)."""
        network, (videos, frames) = self.network, batch.shape[:2]
        features = network.get_video_features(batch)
        tokens = network.prompts_visual_layernorm(features.last_hidden_state[:, 1:])
        tokens = (tokens @ network.prompts_visual_projection).unflatten(0, (videos, frames)).mean(1)
        return torch.cat([features.pooler_output[:, None], tokens], 1).unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        features = self._text_features([self.template.fill(text)[0] for text in texts])
        videos = {id(state): state for state in states}
        keys = torch.tensor([id(state) for state in states], dtype=torch.long)
        scores = torch.empty(len(texts), dtype=torch.float32, device=self.device)
        for key, state in videos.items():
            pairs = (keys == key).to(self.device)
            beside = features[pairs]
            adapted = beside + self.network.prompts_generator(beside[None], state[None, 1:])[0]
            scores[pairs] = cosine_similarity(state[:1].float(), adapted.float())
        return scores

    def _text_features(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings (B, D) of texts alone; each is computed once for all videos."""
        unique = list(dict.fromkeys(texts))
        self.note_cut(unique)
        cached = {text: self._cache.get(f"text {text}") for text in unique}
        rows: dict[str, Tensor] = {t: row for t, row in cached.items() if row is not None}
        if todo := [text for text in unique if text not in rows]:
            inputs = self.tokenize(todo)
            features = self.network.get_text_features(inputs.input_ids, inputs.attention_mask)
            for text, row in zip(todo, features.pooler_output, strict=True):
                rows[text] = row
                self._cache.put(f"text {text}", row)
        return torch.stack([rows[text] for text in texts])
