"""What goes into a batch: texts of similar length together, and sizes that are restored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, ToyPrefix, draw_image, expected

from t2v_eval.errors import ScoringError, TemplateError
from t2v_eval.local.batching import BatchSize, Failure, ahead
from t2v_eval.scoring.plan import Block

LENGTHS = (40, 1, 33, 2, 36, 3, 38, 4)
TEXTS = ["ab cde fgh ij klm nopq rst uvwx y z"[: n % 35] + "!" * (n // 35 + 1) for n in LENGTHS]
IMAGES = [draw_image(n) for n in range(3)]


class Recording:
    """Remembers the texts of each batch."""

    def encode_texts(self, texts):
        self.batches.append(list(texts))
        return super().encode_texts(texts)

    def score(self, states, texts):
        self.batches.append(list(texts))
        return super().score(states, texts)


class Embedding(Recording, ToyEmbedding):
    batches: list[list[str]]


class Pair(Recording, ToyPair):
    default_template = "plain"


def padded(batches) -> int:
    """Characters that a batch takes when its texts are filled up to the longest."""
    return sum(len(batch) * max(map(len, batch)) for batch in batches)


def load(kind, batch_size):
    scorer = kind(device="cpu", batch_size=batch_size)
    scorer.batches = []
    return scorer


@pytest.mark.parametrize("kind", [Embedding, Pair])
def test_texts_of_one_batch_are_of_similar_length(kind):
    scorer = load(kind, 2)
    scores = scorer(IMAGES[:1], TEXTS)
    ordered = sorted(TEXTS, key=len)
    assert padded(scorer.batches) == padded([ordered[k : k + 2] for k in range(0, 8, 2)])
    np.testing.assert_allclose(
        scores, [[expected(IMAGES[0], text) for text in TEXTS]], atol=1e-6, err_msg="not in order"
    )


def test_texts_behind_a_prefix_are_of_similar_length():
    scorer = ToyPrefix(device="cpu", batch_size=2)
    scores = scorer(IMAGES[:1], TEXTS)
    ordered = sorted(TEXTS, key=len)
    assert padded(scorer.text_calls) == padded([ordered[k : k + 2] for k in range(0, 8, 2)])
    np.testing.assert_allclose(scores, [[expected(IMAGES[0], t) for t in TEXTS]], atol=1e-6)


def test_images_with_texts_of_similar_length_are_encoded_together():
    scorer = ToyPair(device="cpu", batch_size=1)
    calls = []
    encode = scorer.encode_images
    scorer.encode_images = lambda batch: calls.extend(batch) or encode(batch)
    texts = ["a" * 30, "b", "c" * 9]
    scorer.score_pairs(IMAGES, texts)
    order = [
        min(range(3), key=lambda k: float((calls[n] - scorer.preprocess(IMAGES[k])).abs().sum()))
        for n in range(3)
    ]
    assert [len(texts[k]) for k in order] == [1, 9, 30]


class Crowded(ToyPrefix):
    """Runs out of memory with the prefixes of more than one image, whatever the batch of texts."""

    def score(self, prefilled, pairs):
        if len(prefilled) > 1:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return super().score(prefilled, pairs)


def test_after_a_group_was_split_the_batch_of_texts_is_as_large_as_before():
    scorer = Crowded(device="cpu", batch_size=8)
    scores = scorer(IMAGES, TEXTS)
    np.testing.assert_allclose(
        scores, [[expected(image, text) for text in TEXTS] for image in IMAGES], atol=1e-6
    )
    assert scorer.batch.value == 8 and scorer.image_batch.value == 1
    assert [len(batch) for batch in scorer.text_calls] == [8, 8, 8]


def test_an_answer_template_is_refused_where_no_answer_is_read():
    with pytest.raises(TemplateError, match="pass `question_template=` alone"):
        ToyEmbedding(device="cpu")(IMAGES[0], "a cat", answer_template="Yes")


def test_scores_are_of_float64_similarities():
    class Close(ToyEmbedding):
        """Embeddings so close that float32 sums cannot tell the cosines apart."""

        def encode_texts(self, texts):
            rows = torch.full((len(texts), 12), 1.0)
            rows[:, 0] += torch.arange(len(texts)) * 1e-4
            return rows

    image = draw_image(0)
    scorer = Close(device="cpu")
    embeddings = scorer.encode_texts(["a"] * 5).double().numpy()
    pixels = scorer.preprocess(image).double().numpy()
    cosines = embeddings @ pixels / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(pixels)
    similarity = scorer.similarity(torch.from_numpy(pixels[None]), torch.from_numpy(embeddings))
    np.testing.assert_allclose(similarity[0], cosines, rtol=1e-14)


class Narrow(ToyEmbedding):
    """Has room for one image, unless it is bright."""

    def encode_images(self, batch):
        if len(batch) > 1 or batch.mean() > 0.9:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return super().encode_images(batch)


def test_dual_encoders_skip_what_does_not_fit():
    images = [draw_image(n) for n in range(3)]
    images.insert(1, draw_image(5).point(lambda _: 255))
    outcome = Narrow(device="cpu", on_error="skip").evaluate_blocks([Block.of(images, TEXTS)])
    assert np.isnan(outcome.scores[0]).any(1).tolist() == [False, True, False, False]
    assert "images[1]" in next(iter(outcome.errors))
    with pytest.raises(ScoringError, match="does not fit"):
        Narrow(device="cpu")(images, TEXTS)


def test_batches_that_fit_are_not_run_again():
    size, ran = BatchSize(8), []

    def run(items):
        if len(items) > 3 or 7 in items:
            raise torch.OutOfMemoryError
        ran.extend(items)
        return items

    batches = list(size.run_adaptive(range(9), run))
    assert ran == [0, 1, 2, 3, 4, 5, 6, 8]
    assert [result for _, result in batches if isinstance(result, Failure)] == [Failure(None)]
    assert size.value == 1
    with pytest.raises(torch.OutOfMemoryError):
        list(BatchSize(2).batches([7], run))
    with pytest.raises(RuntimeError, match="another"):
        list(size.batches([1], lambda _: (_ for _ in ()).throw(RuntimeError("another"))))


def test_where_a_cache_made_room_the_batch_is_tried_again_as_it_was():
    size, tried, cached = BatchSize(4), [], [True]

    def run(items):
        tried.append(len(items))
        if cached:
            raise torch.OutOfMemoryError
        return list(items)

    results = list(size.run_adaptive(range(6), run, lambda: bool(cached and cached.pop())))
    assert tried == [4, 4, 2] and size.value == 4
    assert [result for _, result in results] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("depth", [0, 1, 50, 1000])
def test_results_of_threads_come_in_order(depth):
    assert list(ahead(range(200), lambda n: n * n, depth)) == [n * n for n in range(200)]
