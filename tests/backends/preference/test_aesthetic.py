"""LAION's aesthetic predictor against the copy that ImageReward's authors compare with."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import RGB, cases, exact_pixels, images, openai_archive, tensors
from helpers.toy import draw_image
from torch import nn

import t2v_eval
from t2v_eval.errors import CheckpointError, UnsupportedError
from t2v_eval.registry import models

RATINGS, COSINES = cases("aesthetic").values()
FILE = "sac+logos+ava1-l14-linearMSE.pth"
COMMIT = "6934dd81792f086e613a121dbce43082cb8be85e"
URL = f"https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/{COMMIT}/{FILE}"
PLAIN = [n for n, image in enumerate(RATINGS["images"]) if Path(image).name in RGB]
TEXTS = ["a cat", "", "two dogs " * 200]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return openai_archive(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("predictor") / FILE
    torch.save(tensors("aesthetic"), path)
    return str(path)


@pytest.fixture(scope="module")
def load(clip, predictor):
    def load(**options):
        options = {"checkpoint": predictor, "clip": clip, "device": "cpu", **options}
        return t2v_eval.load("laion-aesthetic", **options)

    return load


@pytest.fixture(scope="module")
def scorer(load):
    return load()


@exact_pixels
def test_equals_the_original(load, scorer):
    expected = np.array(RATINGS["scores"])
    scores = load(image_mode="original")(images(RATINGS))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    scores = scorer([images(RATINGS)[n] for n in PLAIN])
    np.testing.assert_allclose(scores, expected[PLAIN], rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*longer than the model reads")
@exact_pixels
def test_the_cosine_of_the_same_clip_equals_the_original(clip):
    scorer = t2v_eval.load("open_clip", checkpoint=clip, device="cpu", image_mode="original")
    scores = scorer(images(COSINES), COSINES["texts"])
    np.testing.assert_allclose(scores, COSINES["scores"], rtol=0, atol=1e-5)


def test_the_layers_are_applied_one_after_the_other_to_a_vector_of_length_one(scorer):
    pixels = scorer.preprocess(draw_image(0))[None]
    with torch.inference_mode():
        vector = scorer.network(pixels)[0].double().numpy()
    vector = vector / np.sqrt((vector**2).sum())
    for n in (0, 2, 4, 6, 7):
        weight, bias = (
            tensors("aesthetic")[f"layers.{n}.{w}"].double().numpy() for w in ("weight", "bias")
        )
        vector = weight @ vector + bias
    assert scorer(draw_image(0)).item() == pytest.approx(vector.item(), abs=1e-5)


def test_texts_play_no_part_and_may_be_left_out(scorer):
    images = [draw_image(seed) for seed in range(3)]
    alone = scorer(images)
    assert alone.shape == (3, 1)
    torch.testing.assert_close(scorer(images, TEXTS), alone.expand(-1, 3), rtol=0, atol=0)
    torch.testing.assert_close(scorer.score_pairs(images, TEXTS), alone[:, 0], rtol=0, atol=0)
    order = alone[:, 0].argsort(descending=True).tolist()
    assert [place.index for place in scorer.rank(images)] == order
    assert "texts may be left out" in models.card("laion-aesthetic").summary


def test_an_image_is_encoded_once_and_the_text_tower_is_gone(load, tmp_path):
    scorer = load(store=tmp_path / "scores.db")
    rows = []
    scorer.network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    scorer([draw_image(seed) for seed in range(8)], TEXTS)
    scorer([draw_image(seed) for seed in range(8)], "another text")
    assert rows == [8]
    assert not any("token_embedding" in name for name, _ in scorer.network.named_parameters())


def test_a_score_does_not_depend_on_its_company(scorer):
    sizes = [(12, 10), (300, 40), (64, 64), (33, 70)]
    images = [draw_image(seed, sizes[seed % 4]) for seed in range(16)]
    together = scorer(images)
    alone = torch.cat([scorer(p) for p in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
    torch.testing.assert_close(scorer(images[::-1]).flip(0), together, rtol=0, atol=1e-5)


def test_another_clip_than_the_one_it_was_trained_on_is_refused(load, tmp_path):
    wide = {**tensors("aesthetic"), "layers.0.weight": torch.zeros(1024, 99)}
    torch.save(wide, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"embeddings of 99 numbers.*have 16; pass the CLIP"):
        load(checkpoint=tmp_path)


def test_in_a_folder_it_has_the_published_name_or_is_the_only_one(load, scorer, tmp_path):
    torch.save(tensors("aesthetic"), tmp_path / "mine.pth")
    torch.testing.assert_close(load(checkpoint=tmp_path)(draw_image(0)), scorer(draw_image(0)))
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"holds no {FILE.replace('+', '.')}"):
        load(checkpoint=tmp_path)
    (tmp_path / "mine.pth").rename(tmp_path / FILE)
    torch.testing.assert_close(load(checkpoint=tmp_path)(draw_image(0)), scorer(draw_image(0)))


def test_published_layouts_are_known_by_the_names_of_their_weights(load, tmp_path):
    """Version 1 is one layer; with ReLUs, the layers have other numbers in their Sequential."""
    torch.manual_seed(0)
    widths, gaps = (16, 12, 8, 6, 4, 1), (nn.Dropout(0.2), nn.Dropout(0.2), nn.Dropout(0.1))
    layers = []
    for n, (inside, outside) in enumerate(itertools.pairwise(widths)):
        layers += [nn.Linear(inside, outside), *([nn.ReLU()] * (n < 4)), *gaps[n : n + 1]]
    heads = {"v1": nn.Linear(16, 1), "relu": nn.Sequential(*layers)}
    embeddings = torch.randn(9, 16) * 7
    for name, head in heads.items():
        prefix = "" if name == "v1" else "layers."
        file = tmp_path / f"{name}.pth"
        torch.save({prefix + key: value for key, value in head.state_dict().items()}, file)
        scorer = load(checkpoint=file)
        expected = head.eval()(embeddings / embeddings.norm(dim=-1, keepdim=True))
        torch.testing.assert_close(scorer.rate(embeddings), expected, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match=f"holds no {FILE.replace('+', '.')}"):
        load(checkpoint=tmp_path)
    chosen = load(checkpoint=tmp_path, file="relu.pth")
    torch.testing.assert_close(chosen.rate(embeddings), expected, rtol=0, atol=1e-5)


def test_files_of_another_layout_are_refused(load, tmp_path):
    with pytest.raises(CheckpointError, match=f"holds no {FILE.replace('+', '.')}"):
        load(checkpoint=tmp_path)
    lacking = {n: t for n, t in tensors("aesthetic").items() if n != "layers.7.bias"}
    torch.save(lacking, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"lacks weights layers\.7\.bias"):
        load(checkpoint=tmp_path)
    torch.save({**tensors("aesthetic"), "layers.9.bias": torch.zeros(1)}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"unexpected weights layers\.9\.bias"):
        load(checkpoint=tmp_path)
    torch.save({"layers": print}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"could run any code"):
        load(checkpoint=tmp_path)


def test_the_published_file_is_downloaded_once(load, predictor, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    requests = []

    def download(url, to):
        requests.append(url)
        Path(to).write_bytes(Path(predictor).read_bytes())

    options = {"checkpoint": URL, "cache_dir": str(tmp_path)}
    with pytest.raises(CheckpointError, match=r"not on this machine.*checkpoint='FILE'"):
        load(**options, local_files_only=True)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    first, again = load(**options), load(**options, local_files_only=True)
    assert requests == [URL] == [models.card("laion-aesthetic").args["checkpoint"]]
    assert first.id == again.id == load().id

    def refuse(url, to):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(CheckpointError, match=r"no route to host.*checkpoint='FILE'"):
        load(checkpoint=URL + "?raw=1", cache_dir=str(tmp_path))


def test_without_the_hub_the_error_names_the_clip_and_its_argument(predictor, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"clip 'timm/vit_large_patch14_.*openai'.*clip='DIR'"
    ):
        t2v_eval.load(
            "laion-aesthetic",
            checkpoint=predictor,
            local_files_only=True,
            cache_dir=str(tmp_path),
        )


def test_it_compares_nothing(scorer):
    with pytest.raises(UnsupportedError, match="cannot compare images or texts"):
        scorer.image_similarity(draw_image(0), draw_image(1))
