"""Rules that turn token probabilities into the score of an answer.

`answer`: the geometric mean of the probabilities of the answer's tokens and the end token.
`first-token`: the probability of the answer's first token.
`first-tokens`: the sum of the probabilities of the first tokens of the answer's spellings, for yes,
no and numbers up to twenty.
`yes-no`: P(yes) / (P(yes) + P(no)), summed over their spellings, for the answers yes and no. The
sum P(yes) + P(no) is stored with each score.
`yes-no-token`: the same of the tokens "yes" and "no" alone, as rerankers are trained.

The rule for services is in `backends/services/answer_probability.py`.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import InputError, T2VWarning, TemplateError
from t2v_eval.inputs.questions.answers import NUMBER_WORDS, YES_NO, as_digits


class Rule(ABC):
    """Score answers from the log-probabilities of their tokens.

    `log_p` below is (R, vocabulary): one row for each token of `targets`, prompt after prompt.

    Args:
        encode: a function that returns the tokens of a text.

    >>> class LastToken(Rule):
    ...     def targets(self, answer):
    ...         return [*answer]
    ...
    ...     def score(self, gathered, owner, answers):
    ...         return torch.stack([gathered[owner == n, 0][-1].exp() for n in range(len(answers))])
    >>> log_p = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()
    >>> gathered = LastToken(list).gather(log_p, torch.tensor([1, 0]))
    >>> LastToken(list).score(gathered, torch.tensor([0, 0]), ["yes"])
    tensor([0.5000])
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode

    @abstractmethod
    def targets(self, answer: Sequence[int]) -> list[int]:
        """Return the tokens to predict, at least one, of an answer that ends in the end token."""

    def gather(self, log_p: Tensor, labels: Tensor) -> Tensor:
        """Return the values that `score` uses, by default the log-probability of each label.

        Args:
            log_p: (R, vocabulary).
            labels: (R,) token ids.

        Returns:
            (R, K) float32 tensor.
        """
        return log_p.gather(1, labels[:, None])

    @abstractmethod
    def score(self, gathered: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        """Return the scores (P,), 0 to 1, of P prompts.

        Args:
            gathered: (R, K) of `gather`.
            owner: (R,), the prompt that each row belongs to.
            answers: the P answers in words.
        """

    def details(self, gathered: Tensor, answers: Sequence[str]) -> Sequence[str] | None:
        """Return further facts of each prompt as JSON, or None where the rule has none."""
        return None

    def check(self, answer: str) -> None:
        """Raise TemplateError where the rule cannot score an answer."""
        return


class AnswerLikelihood(Rule):
    """Take the geometric mean over all tokens of the answer.

    As the authors' code of Lin et al. 2024, for eq. 2.

    >>> rule = AnswerLikelihood(lambda text: [])
    >>> log_p = torch.tensor([[0.25], [0.04], [0.5]]).log()
    >>> scores = rule.score(log_p, torch.tensor([0, 0, 1]), ["a b", "c"])
    >>> [round(score, 3) for score in scores.tolist()]
    [0.1, 0.5]
    """

    @override
    def targets(self, answer: Sequence[int]) -> list[int]:
        return list(answer)

    @override
    def score(self, gathered: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        counts = torch.bincount(owner, minlength=len(answers))
        sums = gathered.new_zeros(len(answers)).index_add_(0, owner, gathered[:, 0])
        return (sums / counts).exp()


class FirstTokenProbability(AnswerLikelihood):
    """Take the probability of the answer's first token, as t2v_metrics 3 does.

    >>> FirstTokenProbability(lambda text: []).targets([7, 8, 1])
    [7]
    """

    @override
    def targets(self, answer: Sequence[int]) -> list[int]:
        return list(answer[:1])


class FirstTokensProbability(FirstTokenProbability):
    """Take the sum over the first tokens of the answer's spellings, as Soft-TIFA's script does.

    A word is spelled in lower case and capitalised, each also behind a space, and a number in
    digits, too. Only the first token of a spelling is read, so that " 4" may be the token of a
    space. A token that several spellings begin with counts once, where the script adds its
    probability again. Source: `send_message_with_image` and `tifa` in evaluation.py of
    facebookresearch/GenEval2.

    >>> rule = FirstTokensProbability(lambda text: [min(len(text), 5)])
    >>> log_p = torch.tensor([[0.1, 0.1, 0.1, 0.2, 0.4, 0.1]]).log()
    >>> gathered = rule.gather(log_p, torch.tensor([3]))  # yes, " yes" and so on: lengths 3 and 4
    >>> round(float(rule.score(gathered, torch.tensor([0]), ["Yes"])), 4)
    0.6
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__(encode)
        self.tokens = {
            as_digits(word): sorted({encode(text)[0] for text in self._spellings(word)})
            for word in (*YES_NO, *NUMBER_WORDS)
        }

    @override
    def gather(self, log_p: Tensor, labels: Tensor) -> Tensor:
        columns = [log_p[:, tokens].logsumexp(1) for tokens in self.tokens.values()]
        return torch.stack(columns, 1)

    @override
    def score(self, gathered: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        columns = [self._column(answer) for answer in answers]
        return gathered[torch.arange(len(answers)), columns].exp()

    @override
    def check(self, answer: str) -> None:
        self._column(answer)

    def _column(self, answer: str) -> int:
        word = as_digits(answer.strip().casefold())
        if word not in self.tokens:
            raise TemplateError(
                "the rule 'first-tokens' scores the answers yes, no and numbers up to twenty, not "
                f"{answer!r}; use `rule='answer'` for others"
            )
        return list(self.tokens).index(word)

    @staticmethod
    def _spellings(word: str) -> list[str]:
        digits = as_digits(word)
        words = [word, word.capitalize(), *([digits] if digits != word else [])]
        return [space + text for text in words for space in ("", " ")]


class YesNoProbability(FirstTokenProbability):
    """Take P(yes) / (P(yes) + P(no)), or the same of no where that is the answer.

    Args:
        encode: a function that returns the tokens of a text.

    Raises:
        InputError: no spelling of yes or of no is a single token of the model.

    >>> rule = YesNoProbability(lambda text: [1 if "y" in text.lower() else 2])
    >>> log_p = torch.tensor([[0.1, 0.6, 0.3]]).log()
    >>> gathered = rule.gather(log_p, torch.tensor([1]))
    >>> round(float(rule.score(gathered, torch.tensor([0]), ["Yes"])), 4)
    0.6667
    """

    name = "yes-no"
    min_probability = 0.1  # of yes and no together; below it the model meant to answer otherwise

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__(encode)
        self.tokens = {word: self._tokens(self.spellings(word)) for word in YES_NO}

    @override
    def gather(self, log_p: Tensor, labels: Tensor) -> Tensor:
        columns = [log_p[:, tokens].logsumexp(1) for tokens in self.tokens.values()]
        return torch.stack(columns, 1)

    @override
    def score(self, gathered: Tensor, owner: Tensor, answers: Sequence[str]) -> Tensor:
        log_sums = gathered.logsumexp(1)
        lowest = float(log_sums.min().exp())
        if lowest < self.min_probability:
            warnings.warn(
                f"yes and no together have a probability of only {lowest:.2g}, so their ratio "
                "says little; ask a question that the model answers with yes or no",
                T2VWarning,
                stacklevel=2,
            )
        column = torch.tensor(
            [self._column(answer) for answer in answers], dtype=torch.long, device=gathered.device
        )
        log_p = gathered.gather(1, column[:, None])[:, 0]
        return (log_p - log_sums).exp()

    @override
    def details(self, gathered: Tensor, answers: Sequence[str]) -> Sequence[str] | None:
        details = []
        for p, answer in zip(gathered.exp().tolist(), answers, strict=True):
            column = self._column(answer)
            details.append(
                json.dumps({"answer": p[column], "opposite": p[1 - column], "listed": sum(p)})
            )
        return details

    @staticmethod
    def spellings(word: str) -> list[str]:
        """Return the spellings of "yes" or "no" whose probabilities are summed."""
        cases = word, word.capitalize(), word.upper()
        return [space + case for case in cases for space in ("", " ")]

    def _tokens(self, spellings: Iterable[str]) -> list[int]:
        encoded = [self.encode(spelling) for spelling in spellings]
        single = sorted({tokens[0] for tokens in encoded if len(tokens) == 1})
        if not single:
            raise InputError(
                f"the rule {self.name!r} needs yes and no to be tokens of the model, which they "
                "are not; use `rule='answer'`"
            )
        return single

    @override
    def check(self, answer: str) -> None:
        self._column(answer)

    def _column(self, answer: str) -> int:
        word = answer.strip().strip(".").lower()
        if word not in YES_NO:
            raise TemplateError(
                f"the rule {self.name!r} scores the answers yes and no, not {answer!r}; use "
                "`rule='answer'` for others"
            )
        return YES_NO.index(word)


class YesNoTokenProbability(YesNoProbability):
    """Take P(yes) / (P(yes) + P(no)) of the two tokens in lower case, without a space.

    This is sigmoid(logit of yes - logit of no), as in `compute_scores` of
    src/models/qwen3_vl_reranker.py in QwenLM/Qwen3-VL-Embedding.

    >>> rule = YesNoTokenProbability(lambda text: [["no", "yes", "Yes"].index(text)])
    >>> log_p = torch.tensor([[0.1, 0.3, 0.6]]).log()
    >>> gathered = rule.gather(log_p, torch.tensor([1]))
    >>> round(float(rule.score(gathered, torch.tensor([0]), ["yes"])), 4)
    0.75
    """

    name = "yes-no-token"
    min_probability = 0.0  # rerankers are trained on the difference of the two logits alone

    @staticmethod
    @override
    def spellings(word: str) -> list[str]:
        return [word]


RULES: dict[str, type[Rule]] = {
    "answer": AnswerLikelihood,
    "first-token": FirstTokenProbability,
    "first-tokens": FirstTokensProbability,
    "yes-no": YesNoProbability,
    "yes-no-token": YesNoTokenProbability,
}
