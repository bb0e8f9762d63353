"""Scorers of image and text that read a question and give no answer."""

from __future__ import annotations

from typing import Generic

from torch import Tensor
from typing_extensions import TypeVar, override

from t2v_eval.errors import TemplateError
from t2v_eval.local.pair_scorer import PairScorer

State = TypeVar("State", default=Tensor)


class QuestionOnlyScorer(PairScorer[State], Generic[State]):
    """Encode the filled question together with the image, without an answer.

    Subclasses write `preprocess`, `encode_images` and `score`, as of `PairScorer`.

    Raises:
        TemplateError: the template has an answer.

    >>> import torch
    >>> from PIL import Image
    >>> class Red(QuestionOnlyScorer):
    ...     def preprocess(self, image):
    ...         return torch.tensor(image.resize((1, 1)).getpixel((0, 0))) / 255
    ...     def encode_images(self, batch):
    ...         return list(batch)
    ...     def score(self, states, texts):
    ...         return torch.stack([state[0] for state in states])
    >>> Red(device="cpu")([Image.new("RGB", (8, 8), "red")], ["a red wall"])
    tensor([[1.]])
    """

    @override
    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads the text and gives no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass `question_template=` alone"
            )
