"""The nearest of some answers to a free one, by the embeddings of a sentence encoder.

As TIFA does (tifascore/mc_sbert.py of Yushi-Hu/tifa) with the encoders of sentence-transformers,
here through transformers alone: the mean of the token embeddings, padding left out, scaled to
length 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from t2v_eval.errors import CheckpointError
from t2v_eval.inputs.questions.answers import DEFAULT_ENCODER
from t2v_eval.local.checkpoint_files import first_lines
from t2v_eval.local.devices import pick_device
from t2v_eval.local.weights import HUB_FILES, Watched, locate, weight_files

_MAX_CACHED = 10_000  # answers


class SentenceEncoder:
    """Embed texts, and find the nearest of some to another.

    Args:
        checkpoint: a folder or hub id of an encoder of transformers with its tokenizer.
        device: default: CUDA, then MPS, then the CPU.

    Raises:
        CheckpointError: the encoder is not on this machine and cannot be downloaded, or cannot be
            loaded.

    >>> SentenceEncoder("no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: sentence_encoder 'no/such/folder': no such file or directory...
    """

    def __init__(
        self, checkpoint: str | os.PathLike[str] = DEFAULT_ENCODER, device: Any = None
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = locate(checkpoint, HUB_FILES, argument="sentence_encoder")
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._network: Any = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except Exception as error:  # any error of transformers given files of another kind
            raise CheckpointError(
                f"{folder} is no sentence encoder of transformers: {first_lines(error)}"
            ) from error
        self.device = pick_device(device)
        self._network.to(self.device)
        self._files = Watched([*weight_files(folder), *sorted(folder.glob("*.json"))])
        self._nearest = lru_cache(_MAX_CACHED)(self._find_nearest)

    @property
    def id(self) -> str:
        """A hash of its weights and files."""
        return self._files.fingerprint()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return (N, D) embeddings of length 1, in float32 on the CPU.

        Args:
            texts: N texts; those that are too long are cut.
        """
        inputs = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        tokens = self._network(**inputs.to(self.device))[0].float()
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1).cpu()

    def nearest(self, answer: str, choices: Sequence[str]) -> str:
        """Return the choice with the largest cosine to an answer; the first of equal ones.

        Args:
            answer: any text, even an empty one.
            choices: one or more.
        """
        return self._nearest(answer, tuple(choices))

    def _find_nearest(self, answer: str, choices: tuple[str, ...]) -> str:
        embeddings = self.encode([answer, *choices])
        return choices[int((embeddings[1:] @ embeddings[0]).argmax())]
