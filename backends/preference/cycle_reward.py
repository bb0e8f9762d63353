"""CycleReward: how well image and text describe each other, learnt from cycle consistency.

Bahng et al. 2025, "Cycle Consistency as Reward: Learning Image-Text Alignment without Human
Preferences", section 4. The preferred of two texts of an image, or of two images of a text, is that
from which the other can be reconstructed. BLIP as in ImageReward, but with GELU between the layers
of the head, texts of up to 128 tokens, and no standardisation, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor
from torch.nn.functional import gelu, linear
from typing_extensions import override

from t2v_eval.local.base import Options
from t2v_eval.local.weights import check_keys, read_tensors

from .blip_reward import CONFIG, HEAD, TEXT, VISION, BlipReward

RELEASE = "https://github.com/hjbahng/cyclereward/releases/download/v1.0.0/"
UNUSED = ("blip.vision_proj.", "blip.text_proj.")  # projections of BLIP's pretraining


class CycleReward(BlipReward):
    """Score the reward, without bounds.

    Args:
        checkpoint: the .pth file of the authors' release, or its https URL.
        config: the file med_config.json, or its https URL; by default the file beside the weights,
            or else that of the authors' release.
        tokenizer: the folder or hub id of BERT's tokenizer; by default ``bert-base-uncased`` beside
            the weights, or else the published one.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: the template has an answer.

    >>> CycleReward.max_tokens
    128
    """

    layers = (0, 2, 4, 6, 8)
    max_tokens = 128

    def __init__(
        self,
        checkpoint: str,
        config: str | None = None,
        tokenizer: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        file = self.locate(checkpoint)
        beside = file.parent / CONFIG
        config = config or (str(beside) if beside.exists() else RELEASE + CONFIG)
        config_file = self.locate(config, argument="config")
        tensors = read_tensors(file)
        parts = (VISION, TEXT, HEAD, *UNUSED)
        check_keys(file, (), [name for name in tensors if not name.startswith(parts)])
        self.set_network(file, tensors, config_file, tokenizer)

    @override
    def rate(self, hidden: Tensor, head: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for n, (weight, bias) in enumerate(head):
            hidden = linear(gelu(hidden) if n else hidden, weight, bias)
        return hidden[:, 0]
