"""Battles: which of two models won, for ratings from pairs.

`bradley_terry` and `elo` turn battles into ratings. A tie is half a win of each model, as in
FastChat and arena-rank; `bradley_terry.davidson` models ties by a parameter of their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph

from t2v_eval.errors import InputError
from t2v_eval.utils.arrays import FloatArray

IntArray = NDArray[np.int64]

OUTCOMES: Mapping[str, float] = {
    "model_a": 1.0,
    "model_b": 0.0,
    "tie": 0.5,
    "tie (bothbad)": 0.5,
}
"""The score of the first model, by the label in the column ``winner`` of a table of battles."""


class Battle(NamedTuple):
    """A comparison of two models, by a person or a judge.

    Attributes:
        model_a, model_b: the names of the models; the first side, where sides were shown, is a's.
        winner: a label of `OUTCOMES`.
        prompt: what both made an image of; "" where it is unknown.
        judge: who compared them; "" where it is unknown.
        image_a, image_b: the images that were compared; "" where only the prompt is known.
        a_first, b_first: of a judge that saw the pair in both orders, the verdict with a's image
            first and with b's first, as labels of `OUTCOMES`; otherwise "".

    >>> Battle("flux", "sdxl", "tie", prompt="a cat").judge
    ''
    """

    model_a: str
    model_b: str
    winner: str
    prompt: str = ""
    judge: str = ""
    image_a: str = ""
    image_b: str = ""
    a_first: str = ""
    b_first: str = ""


def fault_of(model_a: str, model_b: str, winner: str) -> str:
    """Return why a battle cannot be used, or "".

    >>> fault_of("a", "b", "left")
    "winner 'left' is none of 'model_a', 'model_b', 'tie', 'tie (bothbad)'"
    """
    if winner not in OUTCOMES:
        return f"winner {winner!r} is none of {', '.join(map(repr, OUTCOMES))}"
    if not model_a or not model_b or model_a == model_b:
        return f"{model_a!r} against {model_b!r}: a battle needs the names of two models"
    return ""


@dataclass(frozen=True, slots=True)
class Battles:
    """Battles between models, in the order in which they took place.

    Attributes:
        models: K names, in the order of their first battle.
        first, second: indices of the two models of each battle, shape (n,).
        score: the score of the first model, shape (n,): 1 for a win, 0.5 for a tie, 0 for a loss.

    >>> battles = Battles.from_rows([("a", "b", "model_a"), ("b", "a", "tie")])
    >>> battles.models, battles.score
    (('a', 'b'), array([1. , 0.5]))
    """

    models: tuple[str, ...]
    first: IntArray
    second: IntArray
    score: FloatArray

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[str]]) -> Battles:
        """Build battles from rows (model_a, model_b, winner), or each a `Battle`.

        Raises:
            InputError: there is no row, a winner is none of `OUTCOMES`, a name is empty, or a model
                meets itself; the message has the row's number, from 1.

        >>> Battles.from_rows([("a", "b", "left")])
        Traceback (most recent call last):
        t2v_eval.errors.InputError: row 1: winner 'left' is none of 'model_a', 'model_b', 'tie', \
'tie (bothbad)'
        """
        index: dict[str, int] = {}
        first, second, score = [], [], []
        for number, (model_a, model_b, winner, *_) in enumerate(rows, 1):
            if reason := fault_of(model_a, model_b, winner):
                raise InputError(f"row {number}: {reason}")
            first.append(index.setdefault(model_a, len(index)))
            second.append(index.setdefault(model_b, len(index)))
            score.append(OUTCOMES[winner])
        if not index:
            raise InputError("there are no battles: pass at least one row")
        return cls(tuple(index), np.array(first), np.array(second), np.array(score))

    def __len__(self) -> int:
        """Return the number of battles."""
        return len(self.score)

    def take(self, indices: IntArray) -> Battles:
        """Return the battles at these indices, shape (m,), of the same models."""
        return Battles(self.models, self.first[indices], self.second[indices], self.score[indices])

    def wins(self, tie: float = 0.5) -> FloatArray:
        """Count wins, shape (K, K): element (i, j) is how often model i won against model j.

        Args:
            tie: what a tie counts for each of the two models.

        >>> Battles.from_rows([("a", "b", "model_a"), ("b", "a", "tie")]).wins()
        array([[0. , 1.5],
               [0.5, 0. ]])
        """
        is_tie = self.score == 0.5
        for_first = np.where(is_tie, tie, self.score)
        for_second = np.where(is_tie, tie, 1 - self.score)
        wins = np.zeros((len(self.models),) * 2)
        np.add.at(wins, (self.first, self.second), for_first)
        np.add.at(wins, (self.second, self.first), for_second)
        return wins

    def ties(self) -> FloatArray:
        """Count ties, shape (K, K), symmetric."""
        is_tie = (self.score == 0.5).astype(np.float64)
        ties = np.zeros((len(self.models),) * 2)
        np.add.at(ties, (self.first, self.second), is_tie)
        np.add.at(ties, (self.second, self.first), is_tie)
        return ties


def win_rates(wins: FloatArray) -> FloatArray:
    """Compute the win rate of each model over all of its battles, (wins + ties / 2) / battles.

    Args:
        wins: `Battles.wins`, shape (..., K, K).

    Returns:
        Shape (..., K), from 0 to 1; NaN for a model without battles.

    >>> win_rates(np.array([[0, 1.5], [0.5, 0]]))
    array([0.75, 0.25])
    """
    won = wins.sum(-1)
    total = won + wins.sum(-2)
    return _divide(won, total)


def average_win_rates(wins: FloatArray) -> FloatArray:
    """Compute the mean over opponents of the win rate against each of them.

    Unlike `win_rates`, opponents count alike however often they were met.

    >>> average_win_rates(np.array([[0, 3.0, 0], [1, 0, 1], [0, 1, 0]]))
    array([0.75 , 0.375, 0.5  ])
    """
    rates = pair_win_rates(wins)
    met = ~np.isnan(rates)
    return _divide(np.where(met, rates, 0).sum(1), met.sum(1).astype(np.float64))


def pair_win_rates(wins: FloatArray) -> FloatArray:
    """Compute the win rate of each model against each other, shape (K, K); NaN where none met.

    >>> pair_win_rates(np.array([[0, 3.0], [1, 0]]))
    array([[ nan, 0.75],
           [0.25,  nan]])
    """
    total = wins + wins.T
    return _divide(wins, total)


def eigenvector_centrality(wins: FloatArray, tolerance: float = 1e-6) -> FloatArray:
    """Compute the principal eigenvector of the transposed win matrix, of Euclidean norm 1.

    Power iteration, as in evalica. It is large for models that lose to models that lose.

    >>> eigenvector_centrality(np.array([[0, 3.0], [1, 0]]) + np.eye(2)).round(3)
    array([0.5  , 0.866])
    """
    centrality = np.full(len(wins), 1 / len(wins))
    for _ in range(100):
        previous = centrality
        centrality = wins.T @ centrality
        centrality = centrality / (np.linalg.norm(centrality) or 1)
        if np.linalg.norm(centrality - previous) < tolerance:
            break
    return centrality


def pagerank(wins: FloatArray, damping: float = 0.85, tolerance: float = 1e-6) -> FloatArray:
    """Compute PageRank with an edge from each model to those that won against it; sums to 1.

    Args:
        wins: `Battles.wins`, shape (K, K).
        damping: the probability of following an edge.
        tolerance: the norm of a step after which the iteration stops.

    >>> pagerank(np.array([[0, 3.0], [1, 0]])).round(3)
    array([0.5, 0.5])
    """
    size = len(wins)
    lost = wins.T.copy()
    lost[lost.sum(1) == 0] = 1 / size
    step = damping * lost / lost.sum(1, keepdims=True) + (1 - damping) / size
    ranks = eigenvector_centrality(step, tolerance)
    return _divide(ranks, np.abs(ranks).sum(keepdims=True))


def components(wins: FloatArray) -> list[list[int]]:
    """Return the strongly connected components of the win graph, as indices of models.

    Finite Bradley-Terry ratings exist only where there is one component: where every model has, by
    a chain of wins, won against every other (Ford 1957). A tie is a win in both directions.

    >>> components(np.array([[0, 1.0], [0, 0]]))
    [[0], [1]]
    """
    _, labels = csgraph.connected_components(wins > 0, directed=True, connection="strong")
    members: dict[int, list[int]] = {}
    for model, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(model)
    return list(members.values())


def groups_that_met(wins: FloatArray) -> list[list[int]]:
    """Return the groups of models that are linked by battles, won by either.

    >>> groups_that_met(np.array([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]]))
    [[0, 1], [2]]
    """
    return components(wins + wins.T)


def combine_orders(first: str, second: str) -> str:
    """Return the verdict of a judge that saw a pair in both orders, as MT-bench does.

    Args:
        first: the winner in the first order: "model_a", "model_b" or a tie.
        second: the winner in the other order.

    Returns:
        The winner that both orders name, or "tie" (Zheng et al. 2023, section 3.4).

    >>> combine_orders("model_a", "model_a"), combine_orders("model_a", "tie")
    ('model_a', 'tie')
    """
    return first if first == second and first in ("model_a", "model_b") else "tie"


def encode_units(*columns: Iterable[Hashable]) -> IntArray:
    """Number the distinct rows of columns, shape (n,), in the order of their first appearance.

    >>> encode_units(["p1", "p2", "p1"])
    array([0, 1, 0])
    """
    index: dict[Any, int] = {}
    numbers = [index.setdefault(row, len(index)) for row in zip(*columns, strict=True)]
    return np.array(numbers, np.int64)


def _divide(part: FloatArray, total: FloatArray) -> FloatArray:
    """Return part / total, NaN where total is 0."""
    shape = np.broadcast_shapes(part.shape, total.shape)
    quotient: FloatArray = np.divide(part, total, out=np.full(shape, np.nan), where=total > 0)
    return quotient
