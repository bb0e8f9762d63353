"""Chunks of scores, and ranks, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from t2v_eval.scoring.results import ScoreChunk, of_all_cells, ranking, split_non_finite

NAN = math.nan


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf, 1e39])
def test_what_is_not_finite_in_float32_has_failed(bad):
    values = torch.tensor([0.5, bad, 0.25], dtype=torch.float64)
    chunk = ScoreChunk(np.array([4, 7, 9]), values, details=["a", "b", None])
    valid, failed = split_non_finite(chunk)
    assert valid.positions.tolist() == [4, 9] and valid.values.tolist() == [0.5, 0.25]
    assert valid.details == ["a", None] and valid.error is None
    assert failed.positions.tolist() == [7] and failed.values is None and failed.error


def test_every_cell_has_a_score_or_a_reason():
    chunks = [
        ScoreChunk(np.array([3]), torch.tensor([0.3])),
        ScoreChunk(np.array([0]), None, "no answer"),
    ]
    result = {
        position: (chunk.values is None, chunk.error)
        for chunk in of_all_cells(chunks, 4)
        for position in chunk.positions.tolist()
    }
    assert result == {
        3: (False, None),
        0: (True, "no answer"),
        1: (True, "score_cells yields no score of it"),
        2: (True, "score_cells yields no score of it"),
    }


@pytest.mark.parametrize(
    ("scores", "places"),
    [
        ([0.1, 0.3, 0.2], [(1, 1, False), (2, 2, False), (3, 0, False)]),
        ([0.2, 0.2, 0.1], [(1, 0, True), (1, 1, True), (3, 2, False)]),
        ([NAN, 0.2], [(1, 1, False), (None, 0, False)]),
        ([NAN, NAN], [(None, 0, False), (None, 1, False)]),
    ],
)
def test_ranks(scores, places):
    assert [(image.rank, image.index, image.tied) for image in ranking(scores)] == places
