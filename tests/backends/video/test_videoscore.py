"""VideoScore against the steps of the authors' script, with the classes of transformers."""

from __future__ import annotations

import functools
import hashlib
import json

import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand
from helpers.models.hub_videos import make_videoscore
from helpers.models.video import CLIPS
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoProcessor, Idefics2Config, Idefics2Model

import t2v_eval
from t2v_eval.backends.video.videoscore import ASPECTS
from t2v_eval.errors import CheckpointError, InputError, MediaError, ScoringError
from t2v_eval.inputs.template import templates
from t2v_eval.inputs.video import indices

TEXTS = ["a red ball rolls over green grass", "two people, sitting {on} the table", "dog"]
# Of the instruction in examples/run_videoscore.py of TIGER-AI-Lab/VideoScore (at 8e44973), with {}
# in the place of the prompt.
INSTRUCTION = "f7894a1b7e2dc6fc81c50222d726e9e019bcba61911dc727b693136f8a28e090"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("videoscore")
    make_videoscore(at)
    return at


def load(folder, name="videoscore-v1.1", **options):
    return t2v_eval.load(name, **{"checkpoint": folder, "device": "cpu", **options})


@functools.cache
def published(folder):
    """The processor, the network and its head, as the script loads them."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tensors = load_file(folder / "model.safetensors")
    model = Idefics2Model(Idefics2Config.from_pretrained(folder)).eval()
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    head = torch.nn.Linear(32, 5)
    head.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("score.")})
    return processor, model, head


@torch.no_grad()
def by_the_script(folder, frames, texts):
    """(N, 5) ratings of a video whose frames are chosen."""
    processor, model, head = published(folder)
    rows = []
    for text in texts:
        prompt = templates()["videoscore"].question.replace("{}", text) + "<image> " * len(frames)
        inputs = processor(text=prompt, images=frames, return_tensors="pt")
        rows.append(head(model(**inputs).last_hidden_state[0, -1]))
    return torch.stack(rows)


def chosen(path, most):
    """The frames that the script reads."""
    decoded = [np.rot90(f, -1) if path.stem == "rotated" else f for f in by_hand(path)]
    total = len(decoded)
    listed = np.arange(0, total, total / most).astype(int) if total > most else range(total)
    return [Image.fromarray(decoded[n]) for n in listed]


def test_the_instruction_is_the_authors():
    question = templates()["videoscore"].question
    assert hashlib.sha256(question.encode()).hexdigest() == INSTRUCTION


def test_frames_are_the_authors():
    for total in range(49, 2000):
        assert indices(total, 48, "floor") == np.arange(0, total, total / 48).astype(int).tolist()


@pytest.mark.parametrize(("name", "most"), [("videoscore-v1.1", 48), ("videoscore", 16)])
def test_ratings_are_those_of_the_script(folder, name, most):
    path = CLIPS[3]  # of 40 frames
    expected = by_the_script(folder, chosen(path, most), TEXTS)
    scorer = load(folder, name)
    torch.testing.assert_close(scorer(path, TEXTS)[0], expected[:, 3], atol=2e-5, rtol=0)
    for explained, row in zip(scorer.explain(path, TEXTS)[0], expected, strict=True):
        rated = torch.tensor([explained.aspects[aspect] for aspect in ASPECTS])
        torch.testing.assert_close(rated, row, atol=2e-5, rtol=0)
        assert explained.score == pytest.approx(float(row[3]), abs=2e-5)
    assert expected.std(0).min() > 1e-2


def test_an_aspect_or_the_mean_is_the_score(folder):
    videos = [CLIPS[2], Image.new("RGB", (40, 30), "red")]
    frames = [chosen(videos[0], 48), videos[1:]]
    expected = torch.stack([by_the_script(folder, part, TEXTS[:2]) for part in frames])
    loaded = {aspect: load(folder, aspect=aspect) for aspect in ("visual quality", "mean")}
    for aspect, of_aspect in (("visual quality", expected[..., 0]), ("mean", expected.mean(-1))):
        scores = loaded[aspect](videos, TEXTS[:2])
        torch.testing.assert_close(scores, of_aspect, atol=2e-5, rtol=0)
    assert loaded["mean"].id != loaded["visual quality"].id
    with pytest.raises(InputError, match="`aspect='beauty'`: use 'visual quality' or .* 'mean'"):
        load(folder, aspect="beauty")


def test_what_cannot_be_rated_is_named(folder):
    scorer = load(folder)
    with pytest.raises(
        ScoringError, match="'an <image>' holds '<image>', which stands for a frame"
    ):
        scorer(CLIPS[2], "an <image>")
    sizes = [Image.new("RGB", size) for size in ((40, 30), (30, 40))]
    with pytest.raises(MediaError, match="frames have several sizes once they are resized"):
        scorer(t2v_eval.Video.of(sizes), "a dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("score.bias"), "lacks weights score.bias"),
        (lambda t: t.pop("model.text_model.norm.weight"), "lacks weights text_model.norm.weight"),
        (lambda t: t.update(lm_head=torch.zeros(1)), "has the unexpected weights lm_head"),
        (lambda t: t.update({"score.weight": torch.zeros(2, 32)}), "a head of 2 ratings, and"),
    ],
)
def test_every_weight_is_accounted_for(folder, tmp_path, change, message):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path)


def test_frames_are_never_split(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "preprocessor_config.json"
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    file.write_text(json.dumps({**settings["image_processor"], "do_image_splitting": True}))
    image = Image.new("RGB", (40, 30), "red")
    expected = by_the_script(folder, [image], TEXTS)[:, 3]
    torch.testing.assert_close(load(tmp_path)(image, TEXTS)[0], expected, atol=2e-5, rtol=0)
