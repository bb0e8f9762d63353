"""CLIPScore and RefCLIPScore against what the authors' code answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.checks import count_rows
from helpers.models.clip_goldens import FOLDER, RGB, arch, cases, images, open_clip_file
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, T2VWarning
from t2v_eval.scoring.plan import Block

CASES = {name: c for name, c in cases("clipscore_jmhessel").items() if "matrix" in name}
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return open_clip_file(tmp_path_factory.mktemp("clipscore"))


def load(name, checkpoint, case="matrix_tiny-ViT-H-quickgelu", **options):
    custom = arch(case.removeprefix("matrix_"))
    return t2v_eval.load(name, checkpoint=checkpoint, arch=custom, device="cpu", **options)


def read(name):
    return json.loads((FOLDER / f"cli_{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_the_original(case, checkpoint):
    expected = np.array(case["scores"])
    scorer = load("clipscore", checkpoint, case["id"], image_mode="original")
    scores = scorer(images(case), case["texts"])
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-5)
    plain = [n for n, image in enumerate(case["images"]) if Path(image).name in RGB]
    scores = load("clipscore", checkpoint, case["id"])(
        [images(case)[n] for n in plain], case["texts"]
    )
    np.testing.assert_allclose(scores.numpy(), expected[plain], rtol=0, atol=1e-5)


def test_references_equal_the_original(checkpoint):
    captions, references, original_scores = (
        read("candidates"),
        read("references"),
        read("expected_ref"),
    )
    scorer = load("refclipscore", checkpoint, image_mode="original")
    paths = {path.stem: str(path) for path in (FOLDER / "images").iterdir()}
    scores = scorer.score_pairs(
        [paths[name] for name in original_scores],
        [captions[name] for name in original_scores],
        [references[name] for name in original_scores],
    )
    expected = [row["RefCLIPScore"] for row in original_scores.values()]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=0, atol=1e-5)


def test_the_harmonic_mean_is_that_of_the_paper(checkpoint):
    scorer = load("refclipscore", checkpoint)
    image = torch.tensor([[1.0, 0.0]], dtype=torch.double)

    def score(cosine, nearest):
        text = torch.tensor([[cosine, (1 - cosine**2) ** 0.5, nearest]], dtype=torch.double)
        return scorer.similarity(image, text).item()

    assert score(0.3, 0.6) == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert score(-0.3, 0.6) == 0
    assert score(-0.3, 0.0) == 0  # the original has 0/0 here
    assert score(0.3, -0.2) == pytest.approx(2 * 0.75 * -0.2 / (0.75 - 0.2))  # not clipped
    assert score(0.3, float("inf")) == pytest.approx(0.75)  # no references: CLIPScore


def test_each_image_caption_and_reference_is_encoded_once(checkpoint):
    scorer = load("refclipscore", checkpoint)
    rows = count_rows(images=scorer.network.visual, texts=scorer.network.transformer)
    refs = [["a cat", "a dog"], ["a dog", "a red sphere"], ["a red sphere"]]
    images = [draw_image(seed) for seed in range(3)]
    scores = scorer(images, ["a cat", "a blue cube"], references=refs)
    assert rows == {"images": 3, "texts": 4}
    plain = load("clipscore", checkpoint)(images, ["a cat", "a blue cube"])
    outcome = scorer.evaluate_blocks([Block(images, ["a cat", "a blue cube"], [()] * 3)])
    np.testing.assert_allclose(outcome.scores[0], plain, rtol=0, atol=1e-6)
    item = plain[0, 0].item()
    assert scores[0, 0].item() == pytest.approx(2 * item / (item + 1), abs=1e-6)


def test_references_over_the_limit_are_counted(checkpoint):
    scorer = load("refclipscore", checkpoint)
    with pytest.warns(T2VWarning, match="1 of 2 texts are longer"):
        scorer(draw_image(0), "a cat", references=[["cat " * 100]])


def test_references_are_stored_with_the_captions(checkpoint, tmp_path):
    refs = [["a cat", "a dog"]]
    first = load("refclipscore", checkpoint, store=tmp_path / "s")
    before = first(draw_image(0), ["a red cube", "a cat"], references=refs)
    again = load("refclipscore", checkpoint, store=tmp_path / "s")
    again.network = None  # nothing is left to encode
    torch.testing.assert_close(
        again(draw_image(0), ["a red cube", "a cat"], references=refs), before
    )
    other = again(draw_image(0), ["a cat"], references=[["a dog"]])
    assert other[0, 0] != before[0, 1]


def test_the_prefix_is_a_template(checkpoint):
    scorer = load("clipscore", checkpoint)
    prefixed = scorer(draw_image(0), "A photo depicts a red cube", template="plain")
    assert scorer(draw_image(0), "a red cube") == prefixed


def test_the_end_token_is_spelled_as_in_the_original(checkpoint):
    scorer = load("clipscore", checkpoint)
    ids = scorer.tokenizer(["a<|endoftext|> b", "a <end_of_text> b"])
    end = scorer.tokenizer.eot_token_id
    assert (ids == end).sum(1).tolist() == [2, 1]


def test_scores_need_their_references(checkpoint):
    with pytest.raises(InputError, match="'refclipscore' needs references"):
        load("refclipscore", checkpoint)(draw_image(0), "a cat")


def test_the_default_is_the_weights_of_the_paper(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("clipscore", "refclipscore"):
        with pytest.raises(CheckpointError, match=r"vit_base_patch32_clip_224\.openai"):
            t2v_eval.load(name, cache_dir=str(tmp_path))
