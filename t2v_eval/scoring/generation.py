"""Texts that a model writes, and explanations of scores by the tokens of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from t2v_eval.inputs.media import Media

IMAGE_PLACE = "\ue000image\ue000"
"""The place of an image in a prompt: private characters, which are in no text of a user. Images of
a prompt without places come before it."""
# Equal tokens in a row that are printed; longer runs are printed once, with their number.
LONGEST_RUN = 4


def excerpt(prompt: str, longest: int = 60) -> str:
    """Return the beginning of a prompt for a message, without the places of images.

    >>> excerpt(f"{IMAGE_PLACE}Does it show a cat?", 12)
    'Does it show...'
    """
    text = prompt.replace(IMAGE_PLACE, "").strip()
    return text if len(text) <= longest else f"{text[:longest]}..."


class Writing(NamedTuple):
    """How a model writes a text.

    Attributes:
        max_new_tokens: largest length of a text, in tokens.
        temperature: 0 for the likeliest text; above 0, tokens are sampled.
        passes: number of texts of a prompt.
        grades: for each digit of a text, the number of likeliest tokens that are stored with their
            probabilities; 0 for none.
        top_p: tokens are sampled among the likeliest that have this probability together.
        top_k: tokens are sampled among this many likeliest; 0 for all.

    >>> Writing(512).passes
    1
    """

    max_new_tokens: int
    temperature: float = 0.0
    passes: int = 1
    grades: int = 0
    top_p: float = 1.0
    top_k: int = 0


class Digit(NamedTuple):
    """A token of a written text that is a digit, with the alternatives to it.

    Attributes:
        start: the index of its first character in the text.
        token: the token.
        probabilities: those of the likeliest tokens in its place.

    >>> Digit(7, "4", {"4": 0.75, "5": 0.25}).token
    '4'
    """

    start: int
    token: str
    probabilities: Mapping[str, float]


class Written(NamedTuple):
    """A text that a model wrote.

    Attributes:
        text: the text.
        truncated: whether it was cut at the limit of its length.
        digits: its digits with probabilities, where `Writing.grades` asks for them; None where the
            model does not give them.

    >>> Written("Score: 4").truncated
    False
    """

    text: str
    truncated: bool = False
    digits: Sequence[Digit] | None = None


class Writer(Protocol):
    """A scorer whose model writes about images.

    >>> class Echo:
    ...     def write_passes(self, images, prompts, writing):
    ...         for n, prompt in enumerate(prompts):
    ...             yield [n], [[Written(prompt)] * writing.passes]
    >>> writer: Writer = Echo()
    """

    def write_passes(
        self, images: Sequence[Media], prompts: Sequence[str], writing: Writing
    ) -> Iterator[tuple[Sequence[int], Sequence[Sequence[Written]] | str]]:
        """Yield the numbers of some prompts with their texts, or with why there are none.

        Args:
            images: B images, or groups of images that are one input.
            prompts: a prompt about each.
            writing: how texts are written.
        """


@dataclass(frozen=True, slots=True)
class TokenProbability:
    """One token of an answer, or of a text that a scorer matches with the image by its tokens.

    Attributes:
        token: the token as text.
        probability: its probability given the prompt and the tokens before it; or that the image
            matches it.
        alternatives: the most probable tokens in its place and their probabilities; none for the
            tokens of a text.

    >>> TokenProbability("Yes", 0.75, (("Yes", 0.75), ("No", 0.25))).probability
    0.75
    """

    token: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a score came about.

    Attributes:
        score: the score.
        prompt: the prompt as the model read it, with control tokens.
        tokens: the tokens of the answer, or of the text.

    >>> yes = TokenProbability("Yes", 0.75, (("Yes", 0.75), ("No", 0.25)))
    >>> print(Explanation(0.75, "Is it a cat?", (yes,)))
    0.7500
    Is it a cat?
      'Yes' 0.7500  ('Yes' 0.750, 'No' 0.250)
    """

    score: float
    prompt: str
    tokens: tuple[TokenProbability, ...]

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt]
        for token in self.tokens:
            others = ", ".join(f"{other!r} {p:.3f}" for other, p in token.alternatives)
            ending = f"  ({others})" if others else ""
            lines.append(f"  {token.token!r} {token.probability:.4f}{ending}")
        return "\n".join(lines)


def token_probabilities(
    tokenizer: Any, log_p: Tensor, targets: Sequence[int], top: int
) -> tuple[TokenProbability, ...]:
    """Return the probability of each token of an answer, and its alternatives.

    Args:
        tokenizer: decodes token ids.
        log_p: (T, vocabulary) log-probabilities, one row for each token of the answer.
        targets: T token ids of the answer.
        top: number of alternatives.

    >>> class Letters:
    ...     def decode(self, ids):
    ...         return "".join(map(chr, ids))
    >>> import torch
    >>> log_p = torch.full((1, 128), -9.0)
    >>> log_p[0, 89] = 0.0
    >>> token_probabilities(Letters(), log_p, [89], top=1)[0].token
    'Y'
    """
    tokens = []
    for row, target in zip(log_p.exp(), targets, strict=True):
        best = row.topk(min(top, len(row)))
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        alternatives = tuple((tokenizer.decode([token]), p) for token, p in others)
        tokens.append(
            TokenProbability(tokenizer.decode([target]), float(row[target]), alternatives)
        )
    return tuple(tokens)


def render_tokens(tokenizer: Any, ids: Sequence[int]) -> str:
    """Decode token ids, control tokens included; write the many equal tokens of an image once.

    >>> class Letters:
    ...     def decode(self, ids):
    ...         return "".join(map(chr, ids))
    >>> render_tokens(Letters(), [97, *[60] * 576, 98])
    'a< x 576b'
    """
    parts: list[str] = []
    pending: list[int] = []
    for token, run in groupby(ids):
        count = len(list(run))
        if count <= LONGEST_RUN:
            pending += [token] * count
            continue
        parts += [tokenizer.decode(pending), f"{tokenizer.decode([token])} x {count}"]
        pending = []
    return "".join([*parts, tokenizer.decode(pending)])
