"""Scorers of image and text that read a question and give no answer."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import TemplateError
from t2v_eval.local.pair_scorer import PairScorer


class QuestionOnlyScorer(PairScorer[Tensor]):
    """A scorer that encodes the filled question together with the image, without an answer."""

    @override
    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads the text and gives no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass a question_template alone"
            )
