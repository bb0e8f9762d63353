"""DeQA-Score and OneAlign: the expected grade of an image under a language model.

You et al. 2025, "Teaching Large Language Models to Regress Accurate Image Quality Scores using
Score Distribution", section 3, and Wu et al. 2024, "Q-Align: Teaching LMMs for Visual Scoring via
Discrete Text-Defined Levels", section 3. mPLUG-Owl2 is asked how it rates the image;
the grades 5 to 1 are weighted by the probabilities of five words as the next token (scorer.py of
zhiyuanyou/DeQA-Score and of Q-Future/Q-Align, which weights 1 to 0). The text has no influence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear
from transformers import LlamaConfig
from typing_extensions import override

from t2v_eval.errors import InputError
from t2v_eval.local.base import Options
from t2v_eval.local.image_alone import ImageAloneScorer
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import check_keys, fill, read_tensors, weight_files

from ..common.images import MEAN, pad_to_square, to_pixels
from ..common.transformers_internals import empty_weights
from ..video.checkpoint import Sizes
from ..video.llama_text import LlamaTokens
from .mplug_owl2 import Abstractor, MplugOwl2, TransformerSizes, VisionEncoder, plain_name

PROMPT = (
    "USER: How would you rate the {} of this image?\n",
    "\nASSISTANT: The {} of the image is",
)
RATED = ("quality", "aesthetics")
GRADES = {"excellent": 5.0, "good": 4.0, "fair": 3.0, "poor": 2.0, "bad": 1.0}
LLAMA = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
)
# Paths in config.json to the sizes of both parts.
VISION, ABSTRACTOR = ("visual_config", "visual_model"), ("visual_config", "visual_abstractor")
HEAD = "lm_head.weight"
COMPUTED = "rotary_emb.inv_freq"  # in old files, though it follows from their configuration


class DeqaScore(ImageAloneScorer):
    """Score the expected grade of an image, from 1 (bad) to 5 (excellent).

    Args:
        checkpoint: a folder or hub id with config.json, tokenizer.model and weights.
        rated: "quality", or "aesthetics", which OneAlign was trained on as well.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        InputError: `rated` is neither quality nor aesthetics.

    >>> DeqaScore.uses_text
    False
    """

    def __init__(self, checkpoint: str, rated: str = "quality", **options: Unpack[Options]) -> None:
        super().__init__(**options)
        if rated not in RATED:
            raise InputError(f"`rated={rated!r}`: use {' or '.join(map(repr, RATED))}")
        self.identity_facts = {"rated": rated}
        folder = self.locate_weights(checkpoint)
        self.dtype = large_dtype(options.get("dtype"), self.device, folder)
        sizes = Sizes(folder, {})
        config: Any = LlamaConfig.from_dict({k: sizes.value(k) for k in LLAMA if sizes.value(k)})
        tokens = LlamaTokens(folder, config.vocab_size)
        prefix, suffix = (tokens.pieces.EncodeAsIds(part.format(rated)) for part in PROMPT)
        self._prefix = self._ids([tokens.pieces.bos_id(), *prefix])
        self._suffix = self._ids(suffix)
        words = self._ids([tokens.pieces.EncodeAsIds(word)[0] for word in GRADES])
        self.files = [*weight_files(folder), folder / "config.json", tokens.file]
        tensors = dict(self.stored_weights())
        check_keys(folder, [HEAD] if HEAD not in tensors else [])
        self._words = tensors.pop(HEAD).to(self.device)[words].float()
        self._grades = torch.tensor([*GRADES.values()], device=self.device, dtype=torch.float32)
        self.image_size = sizes.number("image_size", *VISION, "image_size")
        with empty_weights():
            self.network = _build(sizes, config, len(self._prefix))
        weights = {plain_name(n): t.to(self.device, self.dtype) for n, t in tensors.items()}
        fill(self.network, weights, folder)
        self.network.to(self.device)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Pad an image to a square, and return its pixels (3, H, W)."""
        side = self.image_size
        square = pad_to_square(image.convert("RGB"), MEAN)
        return to_pixels(square.resize((side, side), Image.Resampling.BICUBIC))

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        """Return the expected grades (B, 1), which serve as features of the images."""
        states = self.network(batch.to(self.dtype), self._prefix, self._suffix)
        probabilities = linear(states.float(), self._words).softmax(dim=1)
        return (probabilities * self._grades).sum(dim=1, keepdim=True)

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the published weights, without those that follow from the configuration."""
        for name, tensor in read_tensors(self.files[0].parent).items():
            if not name.endswith(COMPUTED):
                yield name, tensor

    def _ids(self, ids: list[int]) -> Tensor:
        return torch.tensor(ids, device=self.device, dtype=torch.long)


def _build(sizes: Sizes, config: Any, start: int) -> MplugOwl2:
    """Build the network that config.json describes.

    Args:
        sizes: the sizes in config.json.
        config: the configuration of LLaMA.
        start: number of tokens before the image.
    """

    def number(part: tuple[str, str], name: str) -> int:
        return sizes.number(name, *part, name)

    vision, abstractor = (
        TransformerSizes(
            width=number(part, "hidden_size"),
            hidden=number(part, "intermediate_size"),
            heads=number(part, "num_attention_heads"),
            layers=number(part, "num_hidden_layers"),
        )
        for part in (VISION, ABSTRACTOR)
    )
    encoder = VisionEncoder(vision, number(VISION, "image_size"), number(VISION, "patch_size"))
    tokens = encoder.position_embedding.shape[1]
    queries = number(ABSTRACTOR, "num_learnable_queries")
    return MplugOwl2(
        encoder, Abstractor(abstractor, queries, tokens, config.hidden_size), config, start
    )
