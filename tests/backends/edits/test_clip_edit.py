"""Directional similarity and preservation of edits, against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from torch.nn.functional import cosine_similarity, normalize

import t2v_eval
from t2v_eval.errors import InputError, ScoringError, UnsupportedError
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.plan import Block

TEXTS = ["a red circle -> a blue circle", "two squares -> a green square"]


@pytest.fixture(scope="module")
def clip():
    return t2v_eval.load("tiny-clip", device="cpu")


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, (48, 48)) for seed in range(6)]


@pytest.fixture(scope="module")
def edits(images):
    return [t2v_eval.Edit(images[n], images[n + 1]) for n in (0, 2, 4)]


def load(name, **options):
    return t2v_eval.load(name, clip="tiny-clip", device="cpu", **options)


def test_scores_are_those_of_instruct_pix2pix(clip, images, edits):
    """cosine_similarity(image_1 - image_0, text_1 - text_0) of features of length 1."""
    features = torch.cat([e for _, e, _ in clip.embed_images([open_media(i) for i in images])])
    features = normalize(features.double(), dim=1)
    expected = []
    for n in (0, 2, 4):
        row = []
        for text in TEXTS:
            before, after = normalize(clip.embed_texts(text.split(" -> ")).double(), dim=1)
            row.append(float(cosine_similarity(features[n + 1] - features[n], after - before, 0)))
        expected.append(row)
    np.testing.assert_allclose(load("clip-directional")(edits, TEXTS), expected, atol=1e-6)
    stays = cosine_similarity(features[::2], features[1::2])
    scores = load("clip-preservation")(edits)
    np.testing.assert_allclose(scores[:, 0], stays, atol=1e-6)


def test_equal_images_and_captions_score_0(images):
    scorer = load("clip-directional")
    same = t2v_eval.Edit(images[0], images[0].copy())
    assert scorer(same, TEXTS).tolist() == [[0.0, 0.0]]
    assert float(scorer(t2v_eval.Edit(images[0], images[1]), "a cat -> a cat")) == 0.0


@pytest.mark.parametrize("text", ["make it blue", "a -> b -> c", " -> a cat", "a cat -> ", ""])
def test_a_text_without_both_captions_has_no_score(edits, text):
    with pytest.raises(ScoringError, match="caption before and the caption after"):
        load("clip-directional")(edits[0], text)
    scores = load("clip-directional", on_error="skip")(edits, [text, TEXTS[0]])
    assert scores.isnan().tolist() == [[True, False]] * 3


def test_an_image_that_fails_costs_its_edits_alone(images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [tmp_path / "broken.png", images[1], tmp_path / "gone.png"]
    edits = [t2v_eval.Edit(images[0], file) for file in files]
    outcome = load("clip-directional", on_error="skip").evaluate_blocks(
        [Block.of(edits, TEXTS)], False
    )
    assert outcome.counts.failed == 4 and np.isfinite(outcome.scores[0][1]).all()
    assert "broken.png" in outcome.failures[0, 0, 0]
    assert "gone.png): no such file" in outcome.failures[0, 2, 1]


def test_scores_and_embeddings_come_from_the_store(edits, tmp_path, monkeypatch):
    store = tmp_path / "scores.sqlite"
    first = load("clip-directional", store=store)(edits, TEXTS)
    again = load("clip-directional", store=store)
    monkeypatch.setattr(type(again.clip), "encode_images", None)
    assert torch.equal(again(edits, TEXTS), first)
    other = load("clip-preservation", store=store)  # the embeddings are there
    monkeypatch.setattr(type(other.clip), "encode_images", None)
    assert other(edits).shape == (3, 1)


def test_what_is_no_edit_and_no_dual_encoder_is_refused(images, clip):
    with pytest.raises(UnsupportedError, match="scores edits, and"):
        load("clip-directional")(images[0], TEXTS)
    with pytest.raises(UnsupportedError, match="scores single images"):
        clip(t2v_eval.Edit(images[0], images[1]), "a cat")
    with pytest.raises(InputError, match="has no embeddings"):
        t2v_eval.load("clip-directional", clip="tiny-clip-flant5", device="cpu")
    with pytest.raises(InputError, match="is loaded"):
        t2v_eval.load("clip-directional", clip=clip, device="cpu")


def test_a_template_is_of_the_captions(edits):
    plain = load("clip-directional")
    prefixed = load("clip-directional", question_template="A photo of {}")
    captions = "A photo of a red circle -> A photo of a blue circle"
    assert float(prefixed(edits[0], TEXTS[0])) == float(plain(edits[0], captions))
    assert prefixed.id != plain.id
