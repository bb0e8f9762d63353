"""A function of one's own is a scorer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.local.function import from_function

IMAGES = [draw_image(seed) for seed in range(5)]
TEXTS = ["a cat", "two dogs", "a bird"]


def mean(image) -> float:
    return float(np.asarray(image.convert("L"), np.float64).mean())


def matrix(images, texts):
    return [[mean(image) + len(text) for text in texts] for image in images]


EXPECTED = torch.tensor(matrix(IMAGES, TEXTS))


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_a_matrix_of_any_form(form):
    scores = from_function(lambda i, t: form(matrix(i, t)))(IMAGES, TEXTS)
    torch.testing.assert_close(scores, EXPECTED)


@pytest.mark.parametrize("batch_size", [1, 2, 99])
def test_pairs_and_batches_give_the_same(batch_size):
    calls = []

    def pairs(images, texts):
        calls.append(len(images))
        return [mean(image) + len(text) for image, text in zip(images, texts, strict=True)]

    scorer = from_function(pairs, pairs=True, batch_size=batch_size)
    torch.testing.assert_close(scorer(IMAGES, TEXTS), EXPECTED)
    assert max(calls) == min(batch_size, len(IMAGES)) * len(TEXTS)


def test_distinct_pairs_are_not_scored_in_all_combinations():
    cells = []

    def count(images, texts):
        cells.append(len(images) * len(texts))
        return matrix(images, texts)

    texts = [f"text {n}" for n in range(5)]
    scores = from_function(count).score_pairs(IMAGES, texts)
    expected = [mean(image) + len(text) for image, text in zip(IMAGES, texts, strict=True)]
    torch.testing.assert_close(scores, torch.tensor(expected))
    assert sum(cells) == 5


def test_an_image_that_fails_leaves_the_others():
    bad = mean(IMAGES[2])

    def fails(images, texts):
        if any(mean(image) == bad for image in images):
            raise RuntimeError("no such colour")
        return matrix(images, texts)

    outcome = from_function(fails, on_error="skip")(IMAGES, TEXTS)
    assert outcome.isnan().all(1).tolist() == [False, False, True, False, False]
    with pytest.raises(ScoringError, match="no such colour"):
        from_function(fails)(IMAGES, TEXTS)
    nan = from_function(lambda i, t: [[np.nan] * len(t)] * len(i), on_error="skip")
    assert nan(IMAGES, TEXTS).isnan().all()
    with pytest.raises(ScoringError, match=r"images\[0\].* with 'a cat': .*not finite"):
        from_function(lambda i, t: [[np.nan] * len(t)] * len(i))(IMAGES, TEXTS)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            lambda i, t: [1.0] * len(i),
            r"shape \(5,\) for 5 images and 3 texts.*5 x 3.*pairs",
        ),
        (lambda i, t: 1.0, r"returned shape \(\)"),
        (lambda i, t: np.zeros((3, 5)), r"returned shape \(3, 5\)"),
    ],
)
def test_other_shapes_say_what_to_return(result, message):
    with pytest.raises(InputError, match=message):
        from_function(result)(IMAGES, TEXTS)


def test_a_result_that_is_no_number():
    with pytest.raises(ScoringError, match="is no matrix of numbers"):
        from_function(lambda i, t: "high")(IMAGES, TEXTS)
    with pytest.raises(InputError, match="not int"):
        from_function(3)  # type: ignore[arg-type]


def test_a_store_wants_a_version(tmp_path):
    with pytest.raises(
        InputError, match=r"has a store but no version.*version=\"1\".*`store=None`"
    ):
        from_function(matrix, store=tmp_path / "s.db")
    alone = from_function(matrix)
    with pytest.raises(InputError, match="has a store but no version"):
        alone.store = tmp_path / "s.db"
    for empty in ("", " ", True):
        with pytest.raises(InputError, match="version="):
            from_function(matrix, version=empty)
    calls = []

    def counted(images, texts):
        calls.append(len(images))
        return matrix(images, texts)

    for version, total in (("1", 1), ("1", 1), ("2", 2)):
        scorer = from_function(counted, "counted", version, store=tmp_path / "s.db")
        torch.testing.assert_close(scorer(IMAGES, TEXTS), EXPECTED)
        assert len(calls) == total


def test_the_id_holds_the_version_or_the_source():
    assert "version=3" in from_function(matrix, version=3).id
    other = from_function(lambda i, t: matrix(i, t)).id
    assert "source=" in other and other != from_function(matrix).id
    assert from_function(matrix, name="brightness").name == "brightness"


def test_compare_takes_it(tmp_path):
    from helpers.benchmarks.toy_benchmark import Toys

    report = t2v_eval.compare([from_function(matrix, "brightness")], [Toys()], resamples=5)
    assert report.labels == ["brightness"]
