"""BLIP-2 as a judge of pairs (ITM) and as a dual encoder (ITC).

Li et al. 2023, "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and
Large Language Models", section 3.2. Query tokens of the Q-Former look at the image. ITM: they
read the text along, and the mean of their match logits becomes the probability of a match. ITC:
they do not, and the best cosine of a query with the text counts. As in t2v_metrics, the image is
stretched to a square and the text goes to BERT as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from transformers import Blip2Config, Blip2ForImageTextRetrieval

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import EmbeddingScorer, Options, unit
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.weights import read_tensors, weight_files

from ..common.images import normalise, to_pixels
from ..common.tensors import resize
from ..common.transformers_internals import qformer_cross_attentions
from .checkpoint import KeysAndValues, ReadingPairScorer, ReadingScorer, build


class _Blip2(ReadingScorer):
    """Loads the network and prepares its inputs.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.
    """

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(**options)
        folder = self.locate(checkpoint)
        try:
            config: Any = Blip2Config.from_pretrained(folder)
        except Exception as error:  # whatever transformers makes of another file
            raise CheckpointError(
                f"{folder} holds no config.json of BLIP-2: {first_lines(error)}"
            ) from error
        vocabulary = self.set_reader(folder, ["[DEC]"], config.qformer_config.vocab_size)
        self.network = build(Blip2ForImageTextRetrieval, config, read_tensors(folder), folder)
        self.network.vision_model.to(self.dtype)  # all else is small and stays in float32
        self.network.to(self.device)
        self.files = [folder / "config.json", vocabulary, *weight_files(folder)]
        self._side = config.vision_config.image_size

    def preprocess(self, image: Image.Image) -> Tensor:
        square = (self._side, self._side)
        return to_pixels(image.convert("RGB").resize(square, Image.Resampling.BICUBIC))

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return normalise(resize(pixels, (self._side, self._side)))

    def _see(self, batch: Tensor) -> Tensor:
        """What the vision tower says of images (B, patches, width)."""
        states: Tensor = self.network.vision_model(pixel_values=batch).last_hidden_state
        return states.float()


class Blip2ITM(_Blip2, ReadingPairScorer):
    """Scores by the probability that image and text match.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.
    """

    def __init__(self, checkpoint: str, **options: Unpack[Options]) -> None:
        super().__init__(checkpoint, **options)
        qformer = self.network.qformer
        ids = torch.ones(1, 2, dtype=torch.long, device=self.device)
        self._keys_and_values = KeysAndValues(
            lambda: qformer_cross_attentions(qformer),
            lambda states: self._look(states, ids, ids),
            qformer.config.encoder_hidden_size,
            self.device,
        )

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Keys and values of all cross-attentions for each image."""
        states: Tensor = self._keys_and_values(self._see(batch))
        return states.unbind()

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ids, mask = self.read_filled(texts)
        hidden = self._look(torch.stack(list(states)), ids, mask)
        logits: Tensor = self.network.itm_head(hidden).mean(dim=1)
        return logits.softmax(dim=-1)[:, 1]

    def _look(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What queries that read the text see in the image (B, Q, width)."""
        queries = self.network.query_tokens.expand(len(ids), -1, -1)
        seen = torch.cat([mask.new_ones(queries.shape[:2]), mask], dim=1)
        hidden: Tensor = self.network.qformer(
            query_embeds=self.network.embeddings(input_ids=ids, query_embeds=queries),
            query_length=queries.shape[1],
            attention_mask=seen,
            encoder_hidden_states=states,
        ).last_hidden_state
        return hidden[:, : queries.shape[1]]


class Blip2ITC(_Blip2, EmbeddingScorer):
    """Scores by the best cosine of a query of the image with the text.

    Args:
        checkpoint: config.json, weights and tokenizer in the layout of transformers.
    """

    def encode_images(self, batch: Tensor) -> Tensor:
        """Projected queries (B, Q, D)."""
        hidden = self.network.qformer(
            query_embeds=self.network.query_tokens.expand(len(batch), -1, -1),
            encoder_hidden_states=self._see(batch),
        ).last_hidden_state
        embeddings: Tensor = self.network.vision_projection(hidden)
        return embeddings

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The projected first token (B, D)."""
        ids, mask = self.read(texts)
        hidden = self.network.qformer(
            query_embeds=self.network.embeddings(input_ids=ids),
            query_length=0,
            attention_mask=mask,
        ).last_hidden_state[:, 0]
        embeddings: Tensor = self.network.text_projection(hidden)
        return embeddings

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return (unit(images) @ unit(texts).T).amax(dim=1)
