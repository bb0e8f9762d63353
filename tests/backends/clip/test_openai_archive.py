"""OpenAI's own archives: tensors out of them without running them, and OpenAI's own numbers."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from helpers.models.clip_goldens import (
    arch,
    cases,
    exact_pixels,
    images,
    open_clip_file,
    openai_archive,
    plain,
)
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.clip.open_clip_internals import load_weights, round_weights
from t2v_eval.backends.clip.openai_archive import infer_architecture, is_archive, read_archive
from t2v_eval.errors import CheckpointError

CASE = cases("openai_clip_pt")["logits_per_image"]
SCALE = CASE["params"]["logit_scale_exp"]
LOGITS = np.array(CASE["scores"])
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> str:
    return openai_archive(tmp_path_factory.mktemp("openai"))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("clip-logits", LOGITS),
        ("open_clip", LOGITS / SCALE),
        ("openai:ViT-B-32", LOGITS / SCALE),
        ("clipscore", 2.5 * np.maximum(LOGITS / SCALE, 0)),
    ],
)
@exact_pixels
def test_equals_the_original(name, expected, archive):
    def load(**options):
        return t2v_eval.load(name, checkpoint=archive, template="plain", device="cpu", **options)

    scores = load(image_mode="original")(images(CASE), CASE["texts"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
    rows = plain(CASE)
    scores = load()([images(CASE)[n] for n in rows], CASE["texts"])
    np.testing.assert_allclose(scores, expected[rows], rtol=0, atol=1e-5)


def test_a_score_does_not_depend_on_its_company(archive):
    scorer = t2v_eval.load("clip-logits", checkpoint=archive)
    images = [draw_image(seed, size) for seed, size in enumerate([(12, 10), (300, 40), (64, 64)])]
    together = scorer(images, CASE["texts"])
    alone = torch.stack([torch.cat([scorer(p, t)[0] for t in CASE["texts"]]) for p in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_the_tensors_are_those_that_torch_reads(archive):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        expected = torch.jit.load(archive).state_dict()
    result = read_archive(Path(archive))
    assert set(expected) - set(result) == {"input_resolution", "context_length", "vocab_size"}
    for name, value in result.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_the_network_is_read_off_the_weights(archive):
    assert infer_architecture(read_archive(Path(archive)), Path(archive)) == {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "width": 64,
            "head_width": 64,
            "layers": 2,
            "patch_size": 8,
            "image_size": 32,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 2,
        },
    }


def test_a_resnet_is_read_off_the_weights_too(tmp_path):
    config = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"width": 8, "head_width": 64, "layers": [1, 2, 1, 1], "image_size": 64},
        "text_cfg": {
            "context_length": 9,
            "vocab_size": 50,
            "width": 64,
            "heads": 1,
            "layers": 1,
        },
    }
    weights = open_clip.CLIP(**config).state_dict()
    assert infer_architecture(weights, tmp_path) == config


def test_weights_are_rounded_where_the_original_rounds_them(archive):
    scorer = t2v_eval.load("open_clip", checkpoint=archive)
    weights = {name: value * 1.0001 for name, value in read_archive(Path(archive)).items()}
    load_weights(scorer.network, Path(archive), weights)
    round_weights(scorer.network)
    result = scorer.network.float().state_dict()
    rounded = {name for name, value in weights.items() if not torch.equal(result[name], value)}
    assert "visual.conv1.weight" in rounded and "text_projection" in rounded
    for name, value in weights.items():
        expected = value.half().float() if name in rounded else value
        torch.testing.assert_close(result[name], expected, rtol=0, atol=0)
    rest = {name.rpartition(".")[2] for name in set(weights) - rounded}
    assert {"positional_embedding", "class_embedding", "logit_scale"} <= rest
    assert not any(".ln_" in name or "embedding" in name for name in rounded)


def rewritten(archive, to, change):
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(name, content))
    return str(to)


def test_a_damaged_archive_or_one_with_code_is_refused_and_not_run(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Touch:
        def __reduce__(self):
            return Path.mkdir, (Path("unpickled"),)

    for bad in (pickle.dumps(Touch(), protocol=2), b"\x80\x02.", b"not a pickle"):
        file = rewritten(
            archive,
            tmp_path / "bad.pt",
            lambda name, content, bad=bad: bad if name.endswith("/data.pkl") else content,
        )
        assert is_archive(Path(file))
        with pytest.raises(CheckpointError, match=r"bad\.pt is not a readable TorchScript"):
            t2v_eval.load("open_clip", checkpoint=file)
    assert not (tmp_path / "unpickled").exists()


def test_an_archive_of_another_network_is_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "linear.pt")
    with pytest.raises(CheckpointError, match=r"linear\.pt.*lacks weights visual\."):
        t2v_eval.load("open_clip", checkpoint=str(tmp_path / "linear.pt"))


def test_other_checkpoints_are_no_archives(tmp_path):
    file = Path(open_clip_file(tmp_path))
    assert not is_archive(file)
    assert not is_archive(Path(arch("tiny-ViT-H")))
