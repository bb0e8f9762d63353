"""HPSv3: human preference, rated by a vision-language model.

Ma et al. 2025, "HPSv3: Towards Wide-Spectrum Human Preference Score", section 4. Qwen2-VL-7B reads
the image and a long instruction with the prompt; at the token <|Reward|> in it, three layers give
the mean and the standard deviation of the rating. The score is the mean, as in the authors' code.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Unpack

from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import CheckpointError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.local.base import Options
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import read_tensors

from .qwen_reward import QwenReward, head_of, rate

FILE, BASE = "HPSv3.safetensors", "Qwen/Qwen2-VL-7B-Instruct"
PREFIX = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
SUFFIX = "<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"  # around the filled question


class HpsV3(QwenReward):
    """Score the mean of the predicted rating, without bounds; `sigma` gives its deviation.

    Args:
        checkpoint: a folder or hub id with HPSv3.safetensors, or that file.
        base: a folder or hub id with the configuration, tokenizer and image processor of
            Qwen2-VL-7B-Instruct; by default those beside the weights, or else the published.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: the question lacks the reward token, or there is an answer.

    >>> HpsV3.default_template
    'hpsv3'
    """

    default_template = "hpsv3"

    def __init__(
        self, checkpoint: str, base: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        file = self.locate(checkpoint, (FILE,))
        file = file / FILE if file.is_dir() else file
        if not file.exists():
            raise CheckpointError(f"{file.parent} holds no {FILE}")
        self.dtype = large_dtype(options.get("dtype"), self.device, file)
        base_folder, config = self.open_base(base, file.parent, BASE)
        self._head = head_of(self.load_network(config, read_tensors(file), file), "rm_head.")
        self._prefix = self.token_ids(PREFIX)
        self._returns_sigma = False
        self.files = [file, *self.config_files(base_folder)]

    def sigma(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        **template: str | None,
    ) -> Tensor:
        """Return the standard deviation of the rating whose mean is the score.

        Args:
            images: as in a call.
            texts: as in a call.
            **template: as in a call.

        Returns:
            (M, N) float32 tensor on the CPU.
        """
        bound = copy.copy(self)
        bound.identity_facts, bound._returns_sigma = {"answer": "sigma"}, True
        return bound.with_call_options(template).forward(images, texts)

    @override
    def check_template(self) -> None:
        super().check_template()
        self.check_question(self.template.question, self.template.answer)

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        suffixes = [SUFFIX.format(self.template.fill(text)[0]) for text in texts]
        rating = rate(self.read(self._prefix, states, suffixes)[:, 0], self._head)
        return rating[:, 1].exp() if self._returns_sigma else rating[:, 0]
