"""How probabilities of tokens become the score of an answer.

`answer`: the geometric mean over the answer's tokens and the end token, each given those before.
`first-token`: the probability of the answer's first token.
`yes-no`: P(yes) / (P(yes) + P(no)) over the ways to write them, for the answers yes and no. What
both have together is kept with each score.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from t2v_eval.errors import InputError, T2VWarning, TemplateError

FORMS = {word: (word, word.capitalize(), word.upper()) for word in ("yes", "no")}
FEW = 0.1  # the model had something else in mind if yes and no have less than this together


class Rule(ABC):
    """`log_p` below is (R, vocabulary): the rows that `targets` asks for, one text after another.

    Args:
        encode: a text -> its tokens.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode

    @abstractmethod
    def targets(self, answer: Sequence[int]) -> list[int]:
        """The tokens to be predicted, at least one, of an answer with its end token."""

    def gather(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """What is kept of rows: (R, K); by default the label's log-probability."""
        return log_p.gather(1, labels[:, None])

    @abstractmethod
    def score(self, kept: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        """Kept rows, and the text each belongs to -> a score a text."""

    def details(self, kept: Tensor, answers: Sequence[str]) -> Sequence[str] | None:
        """What else kept rows say of each text, as JSON; by default nothing."""
        return None


class AnswerLikelihood(Rule):
    def targets(self, answer: Sequence[int]) -> list[int]:
        return list(answer)

    def score(self, kept: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        counts = torch.bincount(owner, minlength=len(answers))
        sums = kept.new_zeros(len(answers)).index_add_(0, owner, kept[:, 0])
        return (sums / counts).exp()


class FirstTokenProbability(AnswerLikelihood):
    def targets(self, answer: Sequence[int]) -> list[int]:
        return list(answer[:1])


class YesNoProbability(FirstTokenProbability):
    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__(encode)
        self.tokens = {word: self._tokens(forms) for word, forms in FORMS.items()}

    def gather(self, log_p: Tensor, labels: Tensor) -> Tensor:
        columns = [log_p[:, tokens].logsumexp(1) for tokens in self.tokens.values()]
        return torch.stack(columns, 1)

    def score(self, kept: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        together = kept.logsumexp(1)
        least = float(together.min().exp())
        if least < FEW:
            warnings.warn(
                f"yes and no together have a probability of only {least:.2g}, so "
                "their ratio says little; ask a question that the model answers with one of them",
                T2VWarning,
                stacklevel=2,
            )
        row = [self._column(answer) for answer in answers]
        column = torch.tensor(row, dtype=torch.long, device=kept.device)
        chosen = kept.gather(1, column[:, None])[:, 0]
        return (chosen - together).exp()

    def details(self, kept: Tensor, answers: Sequence[str]) -> Sequence[str] | None:
        said = []
        for chances, answer in zip(kept.exp().tolist(), answers, strict=True):
            column = self._column(answer)
            one = {"answer": chances[column], "opposite": chances[1 - column]}
            said.append(json.dumps(one | {"listed": sum(chances)}))
        return said

    def _tokens(self, forms: Iterable[str]) -> list[int]:
        encoded = [self.encode(space + form) for form in forms for space in ("", " ")]
        found = sorted({tokens[0] for tokens in encoded if len(tokens) == 1})
        if not found:
            raise InputError(
                "the rule 'yes-no' needs yes and no to be tokens of the model, which they are not; "
                "use rule='answer'"
            )
        return found

    @staticmethod
    def _column(answer: str) -> int:
        word = answer.strip().strip(".").lower()
        if word not in FORMS:
            raise TemplateError(
                f"the rule 'yes-no' scores the answers yes and no, not {answer!r}; use "
                "rule='answer' for others"
            )
        return list(FORMS).index(word)


RULES: dict[str, type[Rule]] = {
    "answer": AnswerLikelihood,
    "first-token": FirstTokenProbability,
    "yes-no": YesNoProbability,
}
