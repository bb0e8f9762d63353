"""Memory that runs out, at every stage of scoring, and what is kept while there is room."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import TINY, save_tiny
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import ScoringError
from t2v_eval.local.state_cache import tensors
from t2v_eval.scoring.plan import Block

TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 2, "two dogs", ""]
REMEDY = "does not fit into the memory of cpu, even alone; .*device_map"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])


@pytest.fixture(scope="module")
def images():
    """Of 1 to 9 tokens."""
    return [draw_image(n, size) for n, size in enumerate([(28, 28), (84, 84), (40, 90), (56, 56)])]


@pytest.fixture(scope="module")
def expected(folder, images):
    return load(folder, share=False)(images, TEXTS)


def load(folder, **options):
    return t2v_eval.load(f"hf-vlm:{folder}", device="cpu", **options)


@contextmanager
def tight(module: torch.nn.Module, size_of, maximum: int) -> Iterator[list[int]]:
    """A module that runs out of memory with more than `most` of something.

    Yields how much of it there was each time, -1 where memory ran out.
    """
    done: list[int] = []

    def check(_, args, kwargs) -> None:
        size = size_of(args, kwargs)
        if size is not None and size > maximum:
            done.append(-1)
            raise torch.OutOfMemoryError("out of memory, says the test")
        done.append(size or 0)

    hook = module.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield done
    finally:
        hook.remove()


def images_seen(args, kwargs) -> int:
    return len(kwargs["grid_thw"])


def rows_read(args, kwargs) -> int | None:
    return len(kwargs["input_ids"]) if kwargs.get("input_ids") is not None else None


def longest_row(args, kwargs) -> int | None:
    return kwargs["input_ids"].shape[1] if kwargs.get("input_ids") is not None else None


def ends_read(args, kwargs) -> int | None:
    """Tokens that are read after a start: their mask is wider than it is high."""
    mask = kwargs.get("attention_mask")
    return (
        kwargs["inputs_embeds"].shape[:2].numel() if mask is not None and mask.ndim == 4 else None
    )


STAGES = {
    "vision": (lambda model: model.visual, images_seen, (1, 2)),
    "start": (lambda model: model, rows_read, (1, 3)),
    "ends": (lambda model: model.language_model, ends_read, (150, 300)),
}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_goes_on_with_less(folder, images, expected, stage):
    module, size_of, limits = STAGES[stage]
    for maximum in limits:
        scorer = load(folder)
        scored: list[int] = []
        score = scorer.rule.score
        scorer.rule.score = lambda kept, owner, answers, score=score, scored=scored: (
            scored.append(len(answers)) or score(kept, owner, answers)
        )
        with tight(module(scorer.network.base_model), size_of, maximum) as done:
            np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-4, atol=1e-7)
            assert max(done) <= maximum
            assert sum(scored) == 16, "what was finished is not done again"
            assert -1 in done
            done.clear()
            scorer._cache.clear()
            scorer(images, TEXTS)
            assert done and -1 not in done, "what worked is remembered"
        assert scorer.execution["image_batch_size"] == str(scorer.image_batch.value)


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]])
def test_an_image_that_does_not_fit_leaves_the_others_alone(folder, images, expected, texts):
    scorer = load(folder, on_error="skip")
    network, needed = scorer.network.base_model, []
    for image in images:
        with tight(network, longest_row, 10**9) as done:
            scorer(image, texts)
        needed.append(max(done))
    with tight(network, longest_row, sorted(needed)[-2]):
        outcome = scorer.evaluate_blocks([Block.of(images, texts)])
    actual = outcome.scores[0]
    assert np.isnan(actual[1]).all()
    np.testing.assert_allclose(actual[[0, 2, 3]], expected[[0, 2, 3], : len(texts)], rtol=1e-4)
    (reason,) = outcome.errors
    assert "images[1]" in reason and "even alone" in reason and "device_map" in reason


@pytest.mark.parametrize("stage", STAGES)
def test_what_fits_by_no_means_is_said_and_tried_again(folder, images, tmp_path, stage):
    module, size_of, _ = STAGES[stage]
    scorer = load(folder, store=tmp_path / "scores.sqlite")
    scorer(images[:1], TEXTS[:2])
    scorer._cache.clear()
    with (
        tight(module(scorer.network.base_model), size_of, 0),
        pytest.raises(ScoringError, match=r"images\[\d\].*" + REMEDY),
    ):
        scorer(images[1:2], TEXTS[:2])
    scorer.on_error = "skip"
    block = [Block.of(images[:2], TEXTS[:2])]
    with tight(module(scorer.network.base_model), size_of, 0):
        outcome = scorer.evaluate_blocks(block)
    assert (outcome.counts.reused, outcome.counts.failed) == (2, 2)
    assert np.isfinite(outcome.scores[0]).tolist() == [[True, True], [False, False]]
    assert scorer.evaluate_blocks(block).counts.computed == 2


def test_what_is_kept_makes_room_first(folder, images, expected):
    scorer = load(folder)
    scorer(images, TEXTS)
    assert len(scorer._cache) == 4
    failed = []

    def once(*_) -> None:
        if not failed:
            failed.append(len(scorer._cache))
            raise torch.OutOfMemoryError("out of memory, says the test")

    before = scorer.image_batch.value
    scorer.network.base_model.register_forward_pre_hook(once)
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-4, atol=1e-7)
    assert failed == [4]
    assert len(scorer._cache) == 0
    assert scorer.image_batch.value == before


@pytest.mark.parametrize("share", [True, "vision"])
def test_images_are_seen_once_in_a_loop_over_texts(folder, images, expected, share):
    scorer = load(folder, share=share)
    with tight(scorer.network.base_model.visual, images_seen, 99) as counts:
        columns = [scorer(images, text) for text in TEXTS]
        assert sum(counts) == 4
        torch.testing.assert_close(torch.cat(columns, 1), expected, rtol=1e-4, atol=1e-6)
        scorer(images[::-1], "new", question_template="{}?")
        assert sum(counts) == 4


def test_threads_see_an_image_once(folder, images, expected):
    scorer = load(folder)
    with tight(scorer.network.base_model.visual, images_seen, 99) as counts:
        with ThreadPoolExecutor(4) as pool:
            columns = list(pool.map(lambda text: scorer(images, text), TEXTS))
        assert sum(counts) == 4
    torch.testing.assert_close(torch.cat(columns, 1), expected, rtol=1e-4, atol=1e-6)


def test_what_was_forgotten_is_seen_again(folder, images, expected):
    scorer = load(folder)
    size = sum(t.nbytes for t in tensors(scorer.encode_images([scorer.preprocess(images[1])])))
    for room, kept in ((0, 0), (size, 1), (10**9, 4)):
        scorer = load(folder, keep_bytes=room)
        with tight(scorer.network.base_model.visual, images_seen, 99) as counts:
            for _ in range(2):
                np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-4, atol=1e-7)
            assert 4 <= sum(counts) <= 8
            assert (sum(counts) == 8) == (room == 0) and (sum(counts) == 4) == (kept == 4)
        assert scorer._cache.bytes <= room


def test_what_cannot_be_explained_for_want_of_memory_is_named(folder, images, expected):
    scorer = load(folder)
    with (
        tight(scorer.network.base_model, lambda _, kwargs: 0, -1),
        pytest.raises(ScoringError, match=r"images\[0\].*" + REMEDY),
    ):
        scorer.explain(images, TEXTS)
    result = scorer.explain(images, TEXTS)
    scores = [[item.score for item in row] for row in result]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_what_is_too_large_to_write_about_is_named(folder, images, monkeypatch):
    scorer = load(folder)

    def too_large(**_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scorer.network, "generate", too_large)
    with pytest.raises(ScoringError, match="memory of cpu, even alone.*load_in_8bit=True"):
        scorer.generate(images, "What is this?")
