"""What a score is made of, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor

FEW = 4  # a token that stands more often in a row is shown once, with its number


@dataclass(frozen=True, slots=True)
class TokenChance:
    """One token of an answer, its probability, and the likeliest tokens in its place."""

    token: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one score came about: the prompt as the model saw it, and each token of the answer."""

    score: float
    prompt: str
    tokens: tuple[TokenChance, ...]

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt]
        for chance in self.tokens:
            others = ", ".join(f"{token!r} {p:.3f}" for token, p in chance.alternatives)
            lines.append(f"  {chance.token!r} {chance.probability:.4f}  ({others})")
        return "\n".join(lines)


def chances(
    tokenizer: Any, log_p: Tensor, targets: Sequence[int], top: int
) -> tuple[TokenChance, ...]:
    """From rows of log-probabilities (T, vocabulary), one a token."""
    made = []
    for row, target in zip(log_p.exp(), targets, strict=True):
        best = row.topk(min(top, len(row)))
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        alternatives = tuple((tokenizer.decode([token]), p) for token, p in others)
        made.append(TokenChance(tokenizer.decode([target]), float(row[target]), alternatives))
    return tuple(made)


def shown(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens as text, control tokens too; the many tokens of a picture as their number."""
    parts: list[str] = []
    plain: list[int] = []
    for token, run in groupby(ids):
        count = len(list(run))
        if count <= FEW:
            plain += [token] * count
            continue
        parts += [tokenizer.decode(plain), f"{tokenizer.decode([token])} x {count}"]
        plain = []
    return "".join([*parts, tokenizer.decode(plain)])
