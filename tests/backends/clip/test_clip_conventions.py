"""The conventions of torchmetrics and diffusers against what they answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import (
    arch,
    cases,
    exact_pixels,
    hf_clip_folder,
    images,
    open_clip_file,
    plain,
)
from helpers.toy import ToyEmbedding, draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import InputError, MediaError, T2VWarning, UnsupportedError
from t2v_eval.local.dual_encoder import unit

CASES = cases("torchmetrics_clipscore")
MATRIX = CASES["clip_score_matrix_pil"]
LONG = [n for n, name in enumerate(MATRIX["params"]["text_ids"]) if name.startswith("long")]
SHORT = [n for n in range(len(MATRIX["texts"])) if n not in LONG]
EDITS = cases("clip_directional")["pairs_pil"]
IQA = cases("torchmetrics_clip_iqa")
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return hf_clip_folder(tmp_path_factory.mktemp("hf_clip"))


def load(name, folder, **options):
    return t2v_eval.load(name, checkpoint=folder, device="cpu", **options)


def check(name, folder, case, score, expected, atol):
    """In mode "original" all images, as they are seen those that are RGB."""
    expected = np.array(expected)
    result = score(load(name, folder, image_mode="original"), images(case))
    np.testing.assert_allclose(result, expected, rtol=0, atol=atol)
    rows = plain(case)
    result = score(load(name, folder), [images(case)[n] for n in rows])
    np.testing.assert_allclose(result, expected[rows], rtol=0, atol=atol)


@exact_pixels
def test_clipscore_100_equals_torchmetrics(folder):
    texts = [MATRIX["texts"][n] for n in SHORT]
    expected = np.array(MATRIX["scores"])[:, SHORT]
    check("clipscore-100", folder, MATRIX, lambda s, i: s(i, texts), expected, 1e-3)


@pytest.mark.parametrize(
    "weights, activation, case",
    [
        ("hf_clip", "quick_gelu", "clip_score_matrix_unclamped_pil"),
        ("pickscore", "gelu", "h14_gelu_matrix_unclamped_pil"),
    ],
)
@exact_pixels
def test_the_cosine_behind_it_equals_torchmetrics(weights, activation, case, tmp_path):
    case = CASES[case]
    texts = [case["texts"][n] for n in SHORT]
    expected = np.array(case["scores"])[:, SHORT] / 100
    custom = hf_clip_folder(tmp_path, weights, activation)
    check("hf-clip", custom, case, lambda s, i: s(i, texts), expected, 1e-5)


@exact_pixels
def test_images_among_themselves_equal_torchmetrics(folder):
    case = CASES["image_image_pil"]
    expected, rows = np.array(case["scores"]), plain(case)
    scorer = load("clipscore-100", folder, image_mode="original")
    result = scorer.image_similarity(images(case), images(case))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3)
    calls = [images(case)[n] for n in rows]
    result = load("clipscore-100", folder).image_similarity(calls, calls[0])
    np.testing.assert_allclose(result[:, 0], expected[rows][:, rows[0]], rtol=0, atol=1e-3)


def test_texts_among_themselves_equal_torchmetrics(folder):
    case = CASES["text_text_pil"]
    texts = [case["texts"][n] for n in SHORT]
    result = load("clipscore-100", folder).text_similarity(texts, texts)
    np.testing.assert_allclose(result, np.array(case["scores"])[SHORT][:, SHORT], rtol=0, atol=1e-3)


@exact_pixels
def test_the_mean_that_torchmetrics_clips_is_that_of_our_cosines(folder):
    # Theirs clips after the mean, so that images below 0 pull others down; ours clips each pair.
    case = CASES["metric_class_mean_pil"]
    cosines = 100 * load("hf-clip", folder, image_mode="original")(images(case), case["texts"])
    scores = load("clipscore-100", folder, image_mode="original")(images(case), case["texts"])
    count, texts = cosines.shape
    compared = 0
    for k, expected in enumerate(case["scores"]):
        columns = [(i + k) % texts for i in range(count)]
        # Every shift but one meets a text that is too long, of which theirs loses the end.
        published = np.array(CASES["clip_score_matrix_unclamped_pil"]["scores"])
        actual = cosines.numpy().copy()
        actual[:, LONG] = published[:, LONG]
        picked = actual[range(count), columns]
        np.testing.assert_allclose(max(picked.mean(), 0), expected, rtol=0, atol=1e-3)
        compared += scores.numpy()[range(count), columns].mean() > expected + 1
    assert compared > 5


def test_long_captions_differ_from_torchmetrics_because_they_keep_their_end(folder):
    # torchmetrics cuts the end token off, so it gives every long caption the same score.
    expected = np.array(CASES["clip_score_matrix_unclamped_pil"]["scores"])[:, LONG]
    assert (expected == expected[:, :1]).all()
    among = np.array(CASES["text_text_pil"]["scores"])[LONG][:, LONG]
    np.testing.assert_allclose(among, 100, rtol=0, atol=1e-3)
    texts = [MATRIX["texts"][n] for n in LONG]
    with pytest.warns(T2VWarning, match="3 of 3 texts are longer"):
        result = load("clipscore-100", folder).text_similarity(texts, texts)
    assert result.fill_diagonal_(0).max() < 99
    assert len(set(load("hf-clip", folder)(draw_image(0), texts)[0].tolist())) == len(LONG)


@exact_pixels
def test_images_of_floats_differ_from_torchmetrics_because_they_are_scaled_once(folder):
    # torchmetrics divides pixels from 0 to 1 by 255 again, so it hardly sees the image.
    case = CASES["float01_input_pil"]
    published = np.array(case["scores"])
    assert np.ptp(published, axis=0).max() < 0.05
    pixels = [np.asarray(Image.open(i).convert("RGB"), np.float32) / 255 for i in images(case)]
    result = load("clipscore-100", folder)(
        [torch.tensor(p).permute(2, 0, 1) for p in pixels], "   "
    )
    expected = np.array(MATRIX["scores"])[:, MATRIX["texts"].index("   ")]
    np.testing.assert_allclose(result[:, 0], expected, rtol=0, atol=1e-3)


def test_clip_logits_are_the_scaled_cosine_in_every_layout(folder, tmp_path):
    for name, source in (("hf-clip", {}), ("open_clip", {"arch": arch("tiny-ViT-H")})):
        file = open_clip_file(tmp_path) if source else folder
        cosine = load(name, file, **source)
        logits = load("clip-logits", file, **source)
        case = (draw_image(0), ["a cat", "two dogs"])
        torch.testing.assert_close(logits(*case), cosine.scale * cosine(*case))
        assert logits.card.name == "clip-logits" and logits.id != cosine.id


def test_what_did_not_change_has_no_direction(folder):
    # In batches of other sizes the same image has another embedding, by a hair.
    before = [draw_image(seed) for seed in range(5)]
    after = [draw_image(7), *before[1:3], draw_image(8), before[4]]
    texts = MATRIX["texts"]
    result = load("hf-clip", folder, batch_size=4).directional_similarity(
        before, after, texts[:5], [*texts[5:9], texts[4]]
    )
    assert (result == 0).tolist() == [False, True, True, False, True]


@exact_pixels
def test_directions_equal_diffusers(folder):
    before, after = images(EDITS), images({"images": EDITS["params"]["images_two"]})
    texts = (EDITS["texts"], EDITS["params"]["texts_two"])
    expected = np.array(EDITS["scores"])
    scorer = load("hf-clip", folder, image_mode="original")
    result = scorer.directional_similarity(before, after, *texts)
    np.testing.assert_allclose(result, expected[:, 0], rtol=0, atol=1e-4)
    described = [n for n, pair in enumerate(zip(*texts, strict=True)) if all(map(str.strip, pair))]
    edits = [t2v_eval.Edit(before[n], after[n]) for n in described]
    captions = [" -> ".join((texts[0][n], texts[1][n])) for n in described]
    for name, column in (("clip-directional", 0), ("clip-preservation", 1)):
        scores = t2v_eval.load(name, clip=scorer).score_pairs(edits, captions)
        np.testing.assert_allclose(scores, expected[described, column], rtol=0, atol=1e-4)
    near = scorer.image_similarity(before, after).diagonal()
    np.testing.assert_allclose(near, expected[:, 1], rtol=0, atol=1e-4)
    rows = sorted(set(plain(EDITS)) & set(plain({"images": EDITS["params"]["images_two"]})))
    subset = [[listed[n] for n in rows] for listed in (before, after, *texts)]
    result = load("hf-clip", folder).directional_similarity(*subset)
    np.testing.assert_allclose(result, expected[rows, 0], rtol=0, atol=1e-4)


def test_iqa_equals_torchmetrics(folder):
    case = IQA["iqa_range1_on_0_255"]
    texts = [
        name if not name.startswith("user") else "|".join(pair)
        for name, pair in case["params"]["prompts"]
    ]
    assert texts[:3] == ["quality", "brightness", "Super good photo.|Super bad photo."]
    check("clip-iqa", folder, case, lambda s, i: s(i, texts), case["scores"], 1e-4)


def test_iqa_differs_from_torchmetrics_where_that_scales_images_twice(folder):
    case = IQA["iqa_range255_on_0_255"]
    assert np.ptp(np.array(case["scores"]), axis=0).max() < 0.01
    result = load("clip-iqa", folder)(images(case), ["quality", "brightness"])
    assert np.ptp(result.numpy(), axis=0).min() > 0.9


def test_iqa_knows_the_pairs_of_torchmetrics_and_those_it_is_given(folder):
    scorer = load("clip-iqa", folder)
    assert len(scorer.pairs) == 16
    for name, pair in IQA["iqa_range1_on_0_255"]["params"]["prompts"]:
        assert scorer.pairs.get(name, pair) == pair
    named, spelled = scorer(draw_image(0), ["quality", "Good photo.|Bad photo."])[0]
    assert named == spelled
    turned = scorer(draw_image(0), "Bad photo.|Good photo.")[0, 0]
    assert named + turned == pytest.approx(1)
    custom = load("clip-iqa", folder, pairs={"size": ["A large cat.", "A small cat."]})
    assert custom(draw_image(0), "size") == scorer(draw_image(0), "A large cat.|A small cat.")
    assert custom.id != scorer.id
    for text in ("a red cube", "a|b|c"):
        with pytest.raises(InputError, match=r"cannot score .*sharpness.*'better\|worse'"):
            scorer(draw_image(0), text)
    with pytest.raises(UnsupportedError, match="pairs of descriptions"):
        scorer.image_similarity(draw_image(0), draw_image(1))


@pytest.mark.parametrize("name", ["clipscore-100", "clip-logits", "clip-iqa"])
def test_a_score_does_not_depend_on_its_company(name, folder):
    scorer = load(name, folder)
    images = [draw_image(seed, size) for seed, size in enumerate([(12, 10), (300, 40), (64, 64)])]
    texts = ["quality", "happy", "a|b"] if name == "clip-iqa" else MATRIX["texts"]
    together = scorer(images, texts)
    backwards = scorer(images[::-1], texts[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in texts]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


# What every dual encoder can compare, on one that is checked by hand.


def test_comparisons_take_what_scores_take():
    scorer = ToyEmbedding()
    a, b = draw_image(0), draw_image(1)
    result = scorer.image_similarity([a, np.asarray(b), a], b)
    assert result.shape == (3, 1) and result.dtype == torch.float32
    assert result[1, 0] == pytest.approx(1) and result[0] == result[2]
    assert sum(scorer.image_calls) == 2  # what is given twice is encoded once
    texts = scorer.text_similarity("a cat", ["a cat", "dogs"], question_template="{} {}")
    bare = scorer.text_similarity("a cat a cat", ["a cat a cat", "dogs dogs"])
    torch.testing.assert_close(texts, bare)
    with pytest.raises(InputError, match="images_a is empty"):
        scorer.image_similarity([], a)
    with pytest.raises(InputError, match="texts_b"):
        scorer.text_similarity("a cat", [3])


def test_a_direction_is_the_cosine_of_two_changes():
    scorer = ToyEmbedding()
    images, texts = [draw_image(0), draw_image(1)], ["a cat", "dogs"]
    result = scorer.directional_similarity(images[:1], images[1:], texts[:1], texts[1:])
    before, after, text, reference = (
        unit(
            scorer._embed_image_lists(images=p)[0][0]
            if n < 2
            else scorer.embed_texts([p])[0].double()
        )
        for n, p in enumerate([*images, *texts])
    )
    expected = torch.cosine_similarity(after - before, reference - text, dim=0)
    assert result.shape == (1,) and result.item() == pytest.approx(expected.item())
    assert scorer.directional_similarity(images[0], images[0], "a cat", "dogs") == 0
    with pytest.raises(InputError, match="1 images before and 2 after, 1 texts before and 1"):
        scorer.directional_similarity(images[0], images, "a cat", "dogs")


def test_comparisons_skip_what_cannot_be_read(tmp_path):
    missing = tmp_path / "gone.png"
    (tmp_path / "bad.png").write_bytes(b"not an image")
    images = [draw_image(0), missing, tmp_path / "bad.png"]
    with pytest.raises(MediaError, match=r"images_b\[1\].*gone\.png"):
        ToyEmbedding().image_similarity(draw_image(0), images)
    scorer = ToyEmbedding(on_error="skip")
    result = scorer.image_similarity(draw_image(0), images)
    assert result[0, 0] == pytest.approx(1) and result[0, 1:].isnan().all()
    result = scorer.directional_similarity(images, [draw_image(1)] * 3, ["a"] * 3, ["b"] * 3)
    assert result.isnan().tolist() == [False, True, True]
    with pytest.raises(MediaError, match=r"gone\.png"):
        scorer.image_similarity(missing, [missing])


def test_models_with_several_embeddings_have_no_direction():
    class Many(ToyEmbedding):
        def encode_images(self, batch):
            return batch[:, None].expand(-1, 2, -1)

    with pytest.raises(UnsupportedError, match="several embeddings"):
        Many().directional_similarity(draw_image(0), draw_image(1), "a cat", "dogs")
