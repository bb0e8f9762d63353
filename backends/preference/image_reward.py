"""ImageReward: human preference, learnt from rankings of generated images.

Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
Generation", section 3; the standardisation is that of the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from torch import Tensor
from torch.nn.functional import linear
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import Options
from t2v_eval.local.weights import read_tensors

from .blip_reward import CONFIG, BlipReward

WEIGHTS = "ImageReward.pt"
FORMER_IDS = {"zai-org/ImageReward": "THUDM/ImageReward"}  # under which it may be cached
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the rewards of the authors' data


class ImageReward(BlipReward):
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

    layers = (0, 2, 4, 6, 7)

    def __init__(
        self, checkpoint: str, tokenizer: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        location = self._find(checkpoint)
        file = location / WEIGHTS if location.is_dir() else location
        if not file.exists():
            raise CheckpointError(f"{location} holds no {WEIGHTS}")
        self.set_network(file, read_tensors(file), file.parent / CONFIG, tokenizer)

    @override
    def rate(self, hidden: Tensor, head: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for weight, bias in head:
            hidden = linear(hidden, weight, bias)
        return (hidden[:, 0] - MEAN) / STD

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
