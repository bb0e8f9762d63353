"""An exception inside a network is the failure of the image, text or pair that causes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, ToyPrefix, draw_image, image_vector
from PIL import Image
from typer.testing import CliRunner

from t2v_eval.errors import MediaError, ScoringError, UnsupportedError
from t2v_eval.local import batching
from t2v_eval.local.batching import BatchSize, Failure, ahead
from t2v_eval.scoring.plan import Block

ODD = Image.new("RGB", (12, 10), (255, 255, 255))
ODD_TEXT = "the text that fails"
ERRORS = [
    RuntimeError("index 392 is out of bounds"),
    ValueError("shapes differ"),
    IndexError("out of range"),
    TypeError("got None"),
    ZeroDivisionError("division by zero"),
    AssertionError(),
    MediaError("leaves no room for a text"),
    ScoringError("is not a number"),
]
IMAGES = [draw_image(0), ODD, draw_image(1), draw_image(2)]
TEXTS = ["a cat", "a dog"]


class Breaking:
    """Fails wherever `stage` says, for the odd image or text."""

    stage = ""
    error: Exception = RuntimeError()

    def fail(self, stage: str, odd: bool) -> None:
        if odd and stage == self.stage:
            raise self.error


def is_odd(rows) -> bool:
    return any(bool((row[:12] == 1.0).all()) for row in rows)


class Embedding(Breaking, ToyEmbedding):
    version = "1"

    def preprocess(self, image):
        self.fail("preprocess", is_odd([image_vector(image)]))
        return super().preprocess(image)

    def encode_images(self, batch):
        self.fail("encode", is_odd(batch))
        return super().encode_images(batch)

    def encode_texts(self, texts):
        self.fail("text", ODD_TEXT in texts)
        return super().encode_texts(texts)

    def similarity(self, images, texts):
        self.fail("similarity", is_odd(images))
        return super().similarity(images, texts)


class Pair(Breaking, ToyPair):
    version = "1"
    default_template = "plain"

    def preprocess(self, image):
        self.fail("preprocess", is_odd([image_vector(image)]))
        return super().preprocess(image)

    def encode_images(self, batch):
        self.fail("encode", is_odd(batch))
        # Computed when it is read, as some networks do.
        return (self.fail("lazy", is_odd([row])) or row for row in batch)

    def score(self, states, texts):
        self.fail("score", is_odd(states))
        self.fail("text", ODD_TEXT in texts)
        return super().score(states, texts)


class First(Breaking, ToyPrefix):
    version = "1"

    def preprocess(self, image):
        self.fail("preprocess", is_odd([image_vector(image)]))
        return super().preprocess(image)

    def encode_images(self, prepared):
        self.fail("encode", is_odd(prepared))
        return super().encode_images(prepared)

    def build_prompt(self, state, texts):
        self.fail("build_prompt", is_odd([state]))
        return super().build_prompt(state, texts)

    def prefill(self, prompts):
        self.fail("prefill", is_odd([prompt.state for prompt in prompts]))
        return super().prefill(prompts)

    def score(self, prefilled, pairs):
        self.fail("score", any(is_odd([prefilled[k]]) for k, _ in pairs))
        self.fail("beside", is_odd(prefilled))
        self.fail("text", any(text == ODD_TEXT for _, text in pairs))
        return super().score(prefilled, pairs)


STAGES = {
    Embedding: ("preprocess", "encode", "similarity"),
    Pair: ("preprocess", "encode", "lazy", "score"),
    First: ("preprocess", "encode", "build_prompt", "prefill", "score", "beside"),
}
PLACES = [(kind, stage) for kind, stages in STAGES.items() for stage in stages]


def breaking(kind, stage, error, **options):
    scorer = kind(device="cpu", **options)
    scorer.stage, scorer.error = stage, error
    return scorer


@pytest.mark.parametrize(("kind", "stage"), PLACES)
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_image_that_fails_leaves_the_others(kind, stage, error, tmp_path):
    whole = kind(device="cpu")([IMAGES[n] for n in (0, 2, 3)], TEXTS)
    scorer = breaking(kind, stage, error, on_error="skip", store=tmp_path / "s.sqlite")
    outcome = scorer.evaluate_blocks([Block.of(IMAGES, TEXTS)])
    scores = torch.from_numpy(outcome.scores[0])
    torch.testing.assert_close(scores[[0, 2, 3]], whole, rtol=0, atol=1e-6)
    assert scores[1].isnan().all()
    assert outcome.counts.failed == 2 and outcome.counts.computed == 6
    for column in range(2):
        reason = outcome.failures[0, 1, column]
        assert "images[1] (12x10 PIL image)" in reason and str(error) in reason
        assert str(error) or type(error).__name__ in reason
    # What was scored is kept, and what failed is tried again.
    scorer.stage = ""
    again = scorer.evaluate_blocks([Block.of(IMAGES, TEXTS)])
    assert (again.counts.reused, again.counts.computed, again.counts.failed) == (6, 2, 0)


@pytest.mark.parametrize(("kind", "stage"), PLACES)
def test_with_raise_the_error_names_the_image(kind, stage):
    error = ZeroDivisionError("in the middle")
    scorer = breaking(kind, stage, error)
    expected = MediaError if stage == "preprocess" else ScoringError
    with pytest.raises(expected, match=r"images\[1\] \(12x10 PIL image\).*in the middle") as caught:
        scorer(IMAGES, TEXTS)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", STAGES)
def test_a_text_that_fails_leaves_the_others(kind):
    texts = ["a cat", ODD_TEXT, "a dog"]
    whole = kind(device="cpu")([draw_image(0), draw_image(1)], ["a cat", "a dog"])
    scorer = breaking(kind, "text", IndexError("no such token"), on_error="skip")
    scores = scorer([draw_image(0), draw_image(1)], texts)
    torch.testing.assert_close(scores[:, [0, 2]], whole, rtol=0, atol=1e-6)
    assert scores[:, 1].isnan().all()
    scorer.on_error = "raise"
    with pytest.raises(ScoringError, match=f"{ODD_TEXT}.*no such token"):
        scorer([draw_image(0), draw_image(1)], texts)


@pytest.mark.parametrize(("kind", "stage"), PLACES)
def test_where_everything_fails_every_cell_has_its_reason(kind, stage):
    scorer = breaking(kind, stage, RuntimeError("our own mistake"), on_error="skip")
    scorer.fail = lambda where, _: Breaking.fail(scorer, where, True)
    outcome = scorer.evaluate_blocks([Block.of(IMAGES, TEXTS)])
    assert np.isnan(outcome.scores[0]).all() and outcome.counts.failed == 8
    assert len(outcome.failures) == 8
    assert all("our own mistake" in reason for reason in outcome.failures.values())


def test_where_everything_fails_the_exit_code_says_so(tmp_path, monkeypatch):
    from t2v_eval.backends.clip.hf_clip import HfClip
    from t2v_eval.cli.main import app

    def broken(*_):
        raise RuntimeError("our own mistake")

    monkeypatch.setattr(HfClip, "encode_images", broken)
    draw_image(0).save(tmp_path / "a.png")
    command = ["score", "-m", "tiny-clip", str(tmp_path / "a.png"), "-t", "x", "--no-store"]
    done = CliRunner().invoke(app, [*command, "--on-error", "skip"])
    assert done.exit_code == 1 and "our own mistake" in done.output
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "a.png" in done.output and "our own mistake" in done.output


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, UnsupportedError("this")])
@pytest.mark.parametrize(("kind", "stage"), [(Embedding, "encode"), (Pair, "score")])
def test_what_concerns_every_image_ends_the_run(kind, stage, raised):
    expected = raised if isinstance(raised, type) else type(raised)
    with pytest.raises(expected):
        breaking(kind, stage, raised, on_error="skip")(IMAGES, TEXTS)


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="an older PyTorch")
def test_a_device_that_failed_ends_the_run():
    error = torch.AcceleratorError("device-side assert triggered", 710)
    with pytest.raises(ScoringError, match="the device failed.*run it again"):
        breaking(Embedding, "encode", error, on_error="skip")(IMAGES, TEXTS)


def test_a_batch_that_fails_is_tried_one_by_one_and_no_more():
    runs = []

    def run(items):
        runs.append(list(items))
        if 3 in items:
            raise ValueError("three")
        return list(items)

    size = BatchSize(4)
    results = list(size.run_adaptive(range(10), run))
    assert runs == [[0, 1, 2, 3], [0], [1], [2], [3], [4, 5, 6, 7], [8, 9]]
    assert [n for part, _ in results for n in range(10)[part]] == list(range(10))
    failures = [(part.start, result) for part, result in results if isinstance(result, Failure)]
    assert [(n, str(failure.error)) for n, failure in failures] == [(3, "three")]
    assert size.value == 4


@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (3, 1)])
@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "P", "I;16"])
def test_odd_images_have_a_score_or_a_reason(size, mode):
    image = (
        Image.fromarray(np.zeros(size[::-1], np.uint16))
        if mode == "I;16"
        else Image.new(mode, size)
    )
    for kind in (ToyEmbedding, ToyPair):
        outcome = kind(device="cpu", on_error="skip").evaluate_blocks(
            [Block.of([image, draw_image(0)], "a cat")]
        )
        assert outcome.counts.computed >= 1 and outcome.counts.cells == 2


class Decoded:
    """Counts how many of its kind there are."""

    alive = most = 0

    def __init__(self):
        Decoded.alive += 1
        Decoded.most = max(Decoded.most, Decoded.alive)

    def __del__(self):
        Decoded.alive -= 1


@pytest.mark.parametrize("depth", [1, 16])
def test_no_more_is_decoded_ahead_than_the_depth(depth, monkeypatch):
    monkeypatch.setattr(batching.os, "cpu_count", lambda: 4)
    Decoded.alive = Decoded.most = 0
    count = 0
    for result in ahead(range(300), lambda _: Decoded(), depth):
        count += 1
        del result
    # What waits, what was just handed out, and what a thread has finished but not put down.
    assert count == 300 and Decoded.most <= max(depth, 4) + 2 + 4


def test_a_scorer_holds_few_decoded_images(monkeypatch):
    monkeypatch.setattr(batching.os, "cpu_count", lambda: 4)
    Decoded.alive = Decoded.most = 0

    class Holding(ToyEmbedding):
        def preprocess(self, image):
            return Decoded(), super().preprocess(image)

        def stack(self, prepared):
            return torch.stack([row for _, row in prepared])

    images = [draw_image(n) for n in range(200)]
    scores = Holding(device="cpu", batch_size=4)(images, "a cat")
    assert scores.isfinite().all()
    # A batch that is encoded, two that are ready or being made ready, and what the threads hold.
    assert Decoded.most <= 4 + 2 * 4 + 2 + 4
