"""ImageReward against what its authors' package answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import CheckpointError, MediaError, T2VWarning, TemplateError
from t2v_eval.registry import models

FOLDER = Path(__file__).parents[2] / "goldens" / "clip" / "imagereward"
CHECKPOINT = FOLDER / "checkpoint"
MATRIX, RANKS = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
IMAGES, TEXTS = MATRIX["images"], MATRIX["texts"]
PLAIN = ["gray_l.png", "large.png", "long224.png", "square.png", "tall.png", "wide.png"]
SHORT = ["a cat", "", "two dogs in the park with a boat", "red cube", "a", "12 apples!", "x y", "("]


def load(checkpoint: Path = CHECKPOINT, **options):
    return t2v_eval.load("image-reward", checkpoint=checkpoint, **{"device": "cpu", **options})


@pytest.fixture(scope="module")
def scorer():
    return load()


@pytest.fixture(scope="module")
def original():
    """Scores of every golden image and text, as the original opens its images."""
    with pytest.warns(T2VWarning, match="3 of 13 texts"):
        return load(image_mode="original")([FOLDER.parent / image for image in IMAGES], TEXTS)


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, (20 + 9 * seed, 60 - 3 * seed)) for seed in range(8)]


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "copy"))


def test_goldens(original):
    np.testing.assert_allclose(original, MATRIX["scores"], rtol=0, atol=1e-4)


def test_ranks(original):
    ranks = 1 + original.argsort(dim=0, descending=True).argsort(dim=0)
    assert ranks.tolist() == RANKS["scores"]


@pytest.mark.parametrize("image", IMAGES)
def test_plain_images_are_seen_as_the_original_sees_them(image, scorer, original):
    row = original[IMAGES.index(image), :10]
    scores = scorer(FOLDER.parent / image, TEXTS[:10])[0]
    name = Path(image).name
    if name in PLAIN:
        torch.testing.assert_close(scores, row, atol=1e-4, rtol=0)
    elif name == "cmyk.jpg":  # RGB before or after it is resized: near, not equal
        torch.testing.assert_close(scores, row, atol=1e-2, rtol=0)
    else:  # orientation, alpha over white, 16 bits, smooth resizing of palettes and bilevel
        assert (scores - row).abs().max() > 1e-3


def test_an_image_and_its_keys_and_values_are_encoded_once(images):
    scorer = load(batch_size=5)
    calls: list[int] = []
    scorer._vision.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    projected: list[int] = []
    scorer._keys_and_values.register_forward_pre_hook(lambda _, a: projected.append(len(a[0])))
    assert scorer(images, SHORT).shape == (8, 8)
    assert sum(calls) == sum(projected) == 8


def test_alone_in_a_batch_and_in_any_order_are_the_same(scorer, images):
    together = scorer(images, SHORT)
    alone = torch.stack([torch.cat([scorer(i, t)[0] for t in SHORT]) for i in images])
    backwards = load(batch_size=3)(images[::-1], SHORT[::-1]).flip(0, 1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)


def test_texts_are_cut_after_35_tokens_and_reported(scorer, images):
    fits = "cat " * 33  # and [CLS] and [SEP]
    just = scorer(images[:2], fits)
    with pytest.warns(T2VWarning, match="2 of 3 texts are longer"):
        scores = scorer(images[:2], [fits, fits + "cat", fits + "dogs " * 10_000])
    torch.testing.assert_close(scores, just.expand(-1, 3), atol=1e-5, rtol=0)


def test_tokens_of_the_authors_are_tokens(scorer):
    ids, mask = scorer.tokenize(["[DEC] cat [ENC]", "[PAD]"])
    assert ids[0].tolist() == [
        12,
        297,
        61,
        *scorer.tokenize(["cat"])[0][0, 2:-1].tolist(),
        298,
        13,
    ] or (ids[0, 1] == 297 and 298 in ids[0])
    assert mask.sum(1).tolist() == [(ids[0] != 0).sum(), 3]  # a [PAD] in a text is no padding


def test_templates(scorer, images):
    templated = scorer(images[:2], "cat", question_template="a photo of a {}")
    torch.testing.assert_close(templated, scorer(images[:2], "a photo of a cat"))
    with pytest.raises(TemplateError, match="pass `question_template=` alone"):
        scorer(images[:2], "cat", answer_template="Yes")


@pytest.mark.parametrize("size", [(20_000, 190), (190, 20_000), (3, 1001), (40_001, 301)])
def test_the_middle_of_an_extreme_image_is_resized_alone(size, scorer, monkeypatch):
    image = draw_image(0, size)
    apart = scorer.preprocess(image)
    monkeypatch.setattr("t2v_eval.backends.common.images.EXTREME_RATIO", 10**9)
    torch.testing.assert_close(apart, scorer.preprocess(image), atol=0.03, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 2), (2, 20_000), (224, 224), (223, 225)])
@pytest.mark.parametrize("mode", ["RGB", "P", "1", "RGBA", "LA", "CMYK", "I;16", "L"])
def test_any_size_and_mode_of_image(size, mode, scorer):
    image = Image.new(mode, size, 1) if mode == "I;16" else draw_image(0, size).convert(mode)
    assert scorer.preprocess(image).shape == (3, 224, 224)
    assert torch.isfinite(scorer(image, "a cat")).all()


def test_what_cannot_be_opened_fails_alone(images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    values = [images[0], tmp_path / "broken.png", images[1]]
    with pytest.raises(MediaError, match="broken.png"):
        load()(values, SHORT)
    scores = load(on_error="skip")(values, SHORT)
    assert torch.isnan(scores[1]).all()
    torch.testing.assert_close(scores[[0, 2]], load()(images[:2], SHORT), atol=1e-5, rtol=0)


def test_the_layout_of_the_hub_and_a_file(scorer, copy, images, tmp_path):
    expected = scorer(images[:2], SHORT)
    tokenizer = shutil.move(copy / "bert-base-uncased", tmp_path / "tokenizer")
    for checkpoint in (copy, copy / "ImageReward.pt"):
        scores = load(checkpoint, tokenizer=tokenizer)(images[:2], SHORT)
        torch.testing.assert_close(scores, expected)
    with pytest.raises(CheckpointError, match="google-bert/bert-base-uncased.*tokenizer='DIR'"):
        load(copy, local_files_only=True, cache_dir=str(tmp_path))


def test_the_text_encoder_looks_at_what_the_tower_gives(scorer, copy, images):
    """The published configuration states another width, which the authors' code overrides."""
    config = json.loads((copy / "med_config.json").read_text()) | {"encoder_width": 768}
    (copy / "med_config.json").write_text(json.dumps(config))
    torch.testing.assert_close(load(copy)(images[:2], SHORT), scorer(images[:2], SHORT))


def test_a_pickle_of_code_is_refused(copy):
    torch.save({"mlp": print}, copy / "ImageReward.pt")
    with pytest.raises(CheckpointError, match="ImageReward.pt.*could run any code"):
        load(copy)


def test_checkpoints_that_do_not_fit_are_refused(copy):
    tensors = torch.load(copy / "ImageReward.pt", weights_only=True)
    for missing in ("mlp.layers.7.bias", "blip.visual_encoder.pos_embed"):
        torch.save({n: t for n, t in tensors.items() if n != missing}, copy / "ImageReward.pt")
        with pytest.raises(CheckpointError, match=f"lacks weights {missing}"):
            load(copy)
    for part in ("blip.visual_encoder.norm", "blip.text_encoder.encoder.layer.1"):
        lacking = {n: t for n, t in tensors.items() if not n.startswith(part)}
        torch.save(lacking, copy / "ImageReward.pt")
        with pytest.raises(CheckpointError, match="it lacks weights"):
            load(copy)
    torch.save(tensors, copy / "ImageReward.pt")
    (copy / "bert-base-uncased" / "vocab.txt").write_text("\n".join(f"a{n}" for n in range(298)))
    with pytest.raises(CheckpointError, match="the model has embeddings for 299"):
        load(copy)
    (copy / "bert-base-uncased" / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match="holds no vocab.txt"):
        load(copy)
    wide = (copy / "med_config.json").read_text().replace('"hidden_size": 32', '"hidden_size": "x"')
    for content in ("{", "[]", '{"hidden_size": 32}', wide):
        (copy / "med_config.json").write_text(content)
        with pytest.raises(
            CheckpointError,
            match="med_config.json (does not describe|is not readable|holds a list)",
        ):
            load(copy)
    (copy / "ImageReward.pt").unlink()
    with pytest.raises(CheckpointError, match="holds no ImageReward.pt"):
        load(copy)


def test_half_precision_is_near(scorer, images):
    scores = load(dtype="bfloat16")(images[:2], SHORT)
    torch.testing.assert_close(scores, scorer(images[:2], SHORT), atol=0.2, rtol=0)


def test_card_and_weights_that_are_not_here(tmp_path):
    card = models.card("image-reward")
    assert (card.kind, card.args["checkpoint"]) == ("preference", "zai-org/ImageReward")
    assert all((card.summary, card.license, card.range, card.paper, "golden" in card.verified))
    with pytest.raises(CheckpointError, match="zai-org/ImageReward.*checkpoint='DIR'"):
        t2v_eval.load("image-reward", local_files_only=True, cache_dir=str(tmp_path))
