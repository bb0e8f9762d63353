"""LongCLIP and SPECS against their authors' code and, in transformers' layout, torchmetrics'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import (
    cases,
    exact_pixels,
    images,
    long_clip_file,
    plain,
    tensors,
)
from helpers.models.longclip import as_hub
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import CheckpointError, T2VWarning

ORIGINAL = cases("longclip_original")["cos"]
DOT = cases("longclip_original")["raw_dot"]
SPECS = cases("specs")["specs"]
HUB = cases("longclip_hf")["matrix_unclamped_pil"]
LONG = HUB["params"]["text_ids"].index("long400")  # the one that is longer than 248 tokens
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    return long_clip_file(tmp_path_factory.mktemp("longclip"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return as_hub(tmp_path_factory.mktemp("hub"))


@pytest.mark.parametrize(
    "name, case", [("longclip-l", ORIGINAL), ("longclip-b", ORIGINAL), ("specs", SPECS)]
)
@exact_pixels
def test_equals_the_original(name, case, file):
    expected, rows = np.array(case["scores"]), plain(case)
    scorer = t2v_eval.load(name, checkpoint=file, device="cpu", image_mode="original")
    np.testing.assert_allclose(scorer(images(case), case["texts"]), expected, rtol=0, atol=1e-5)
    result = t2v_eval.load(name, checkpoint=file)([images(case)[n] for n in rows], case["texts"])
    np.testing.assert_allclose(result, expected[rows], rtol=0, atol=1e-5)


@exact_pixels
def test_the_dot_product_of_the_authors_example_is_that_of_our_embeddings(file):
    scorer = t2v_eval.load("longclip-l", checkpoint=file, image_mode="original")
    features = scorer._embed_image_lists(images=images(DOT))[0]
    texts = scorer.embed_texts(DOT["texts"]).double()
    np.testing.assert_allclose(features @ texts.T, DOT["scores"], rtol=0, atol=1e-4)


@exact_pixels
def test_the_layout_of_transformers_equals_torchmetrics(folder):
    expected, rows = np.array(HUB["scores"]) / 100, plain(HUB)
    texts = HUB["texts"][:LONG]
    scorer = t2v_eval.load("longclip-l", checkpoint=folder, image_mode="original")
    result = scorer(images(HUB), texts)
    np.testing.assert_allclose(result, expected[:, :LONG], rtol=0, atol=1e-5)
    result = t2v_eval.load("longclip-l", checkpoint=folder)([images(HUB)[n] for n in rows], texts)
    np.testing.assert_allclose(result, expected[rows, :LONG], rtol=0, atol=1e-5)


@exact_pixels
def test_a_caption_of_more_than_248_tokens_differs_from_torchmetrics_for_it_keeps_its_end(folder):
    # torchmetrics cuts the end token off; transformers then pools at the first position, which no
    # word can reach: the score of any such caption.
    scorer = t2v_eval.load("longclip-l", checkpoint=folder, image_mode="original")
    with pytest.warns(T2VWarning, match="1 of 1 texts are longer"):
        result = scorer(images(HUB), HUB["texts"][LONG])[:, 0].double().numpy()
    published = np.array(HUB["scores"])[:, LONG] / 100
    assert np.abs(result - published).max() > 0.1
    ids = scorer.tokenizer("any", return_tensors="pt").input_ids[:, :1]
    first = scorer.clip.get_text_features(ids).pooler_output.double()
    features = scorer._embed_image_lists(images=images(HUB))[0]
    actual = torch.cosine_similarity(features, first)
    np.testing.assert_allclose(actual.detach(), published, rtol=0, atol=1e-5)


def test_a_configuration_that_still_says_77_gives_way_to_the_weights(folder, tmp_path):
    stale = t2v_eval.load("longclip-l", checkpoint=as_hub(tmp_path, positions=77))
    assert stale.context == 248
    texts = HUB["texts"]
    right = t2v_eval.load("longclip-l", checkpoint=folder)
    torch.testing.assert_close(stale(draw_image(0), texts), right(draw_image(0), texts))


def test_specs_in_the_layout_of_transformers(folder):
    cosine = t2v_eval.load("longclip-l", checkpoint=folder)(draw_image(0), HUB["texts"])
    result = t2v_eval.load("specs", checkpoint=folder)(draw_image(0), HUB["texts"])
    torch.testing.assert_close(result, (cosine + 1) / 2)


def test_only_the_first_20_positions_are_those_of_clip(file, tmp_path):
    positions = tensors("longclip")["positional_embedding"].float()
    learnt = tensors("longclip")["positional_embedding_res"].float()
    positions[20:], learnt[:20] = 9, 9
    changed = {"positional_embedding": positions, "positional_embedding_res": learnt}
    other = t2v_eval.load("longclip-l", checkpoint=long_clip_file(tmp_path, **changed))
    same = t2v_eval.load("longclip-l", checkpoint=file)
    assert torch.equal(
        other(draw_image(0), ORIGINAL["texts"]), same(draw_image(0), ORIGINAL["texts"])
    )


def test_weights_are_rounded_as_in_the_original(file, tmp_path):
    finer = {
        name: value.float() * 1.0001
        for name, value in tensors("longclip").items()
        if name.endswith("proj") or "mlp" in name
    }
    scorer = t2v_eval.load("longclip-l", checkpoint=long_clip_file(tmp_path, **finer))
    result = scorer.network.state_dict()
    for name, value in finer.items():
        assert torch.equal(result[name], value.half().float()), name


@pytest.mark.parametrize("name", ["longclip-b", "longclip-l", "specs"])
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_score_does_not_depend_on_its_company(name, layout, request):
    scorer = t2v_eval.load(name, checkpoint=request.getfixturevalue(layout))
    images = [draw_image(seed, size) for seed, size in enumerate([(12, 10), (300, 40), (64, 64)])]
    texts = ORIGINAL["texts"]
    together = scorer(images, texts)
    backwards = scorer(images[::-1], texts[::-1]).flip(0, 1)
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in texts]) for p in images])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_a_folder_is_searched_for_the_published_names(file, folder):
    actual = t2v_eval.load("longclip-l", checkpoint=str(Path(file).parent))
    assert actual.id == t2v_eval.load("longclip-l", checkpoint=file).id


def test_what_is_no_long_clip_is_refused(tmp_path, monkeypatch):
    weights = {n: t for n, t in tensors("longclip").items() if not n.endswith("_res")}
    torch.save(weights, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"clip\.pt.*lacks weights positional_embedding_res"):
        t2v_eval.load("longclip-l", checkpoint=str(tmp_path / "clip.pt"))
    with pytest.raises(CheckpointError, match=r"holds no weights: expected one of longclip-L\.pt"):
        t2v_eval.load("longclip-l", checkpoint=str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("longclip-b", "longclip-l", "specs"):
        with pytest.raises(CheckpointError, match=r"(LongCLIP-[BL]|SPECS).*checkpoint="):
            t2v_eval.load(name, cache_dir=str(tmp_path))
