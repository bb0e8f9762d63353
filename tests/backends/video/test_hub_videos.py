"""X-CLIP and PE-AV against the processors and the forward passes of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand
from helpers.models.hub_videos import XCLIP_FRAMES, make_pe_av, make_xclip
from helpers.models.video import CLIPS
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    PeVideoModel,
    XCLIPModel,
)
from transformers.video_utils import VideoMetadata

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.video import frames

TEXTS = ["a red ball rolls over green grass", "dog", "two people sitting on the table"]
MODELS = {"xclip-base-patch32": make_xclip, "pe-av-base": make_pe_av}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in MODELS}
    for name, make in MODELS.items():
        make(folders[name])
    return folders


def load(folders, name, **options):
    folder = folders["xclip-base-patch32" if name.startswith("xclip") else "pe-av-base"]
    return t2v_eval.load(name, **{"checkpoint": folder, "device": "cpu", **options})


@pytest.fixture(scope="module")
def scorers(folders):
    return {name: load(folders, name) for name in MODELS}


def upright(path):
    return [np.rot90(f, -1) if path.stem == "rotated" else f for f in by_hand(path)]


def near(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def xclip_of_transformers(folder, videos):
    """(M, N) cosines of lists of frames and `TEXTS`: one forward pass for all."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert type(processor).__name__.startswith("VideoMAE")
    batches = [processor([*map(Image.fromarray, v)], return_tensors="pt") for v in videos]
    pixels = [batch["pixel_values"] for batch in batches]
    words = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    model = XCLIPModel.from_pretrained(folder).eval()
    output = model(pixel_values=torch.cat(pixels), **words)
    return output.logits_per_video / model.logit_scale.exp()


def middle_frames(path):
    """Frames of `SampleFrames` in test mode, with which the authors evaluate."""
    decoded = upright(path)
    interval = len(decoded) / XCLIP_FRAMES
    offsets = (np.arange(XCLIP_FRAMES) * interval + interval / 2).astype(int)
    return [decoded[n] for n in offsets]


def test_a_text_is_scored_beside_its_own_video_by_x_clip(folders, scorers):
    folder = folders["xclip-base-patch32"]
    expected = xclip_of_transformers(folder, [middle_frames(path) for path in CLIPS])
    scorer = scorers["xclip-base-patch32"]
    scores = scorer(CLIPS, TEXTS)
    near(scores, expected)
    alone = [[scorer(path, text)[0, 0] for text in TEXTS] for path in CLIPS]
    near(torch.tensor(alone), expected)
    apart = expected - expected.mean(0) - expected.mean(1, keepdim=True) + expected.mean()
    assert apart.abs().max() > 0.02


@torch.no_grad()
def test_logits_of_pe_av_are_those_of_transformers(folders, scorers):
    folder = folders["pe-av-base"]
    processor = AutoVideoProcessor.from_pretrained(folder)
    words = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    config = AutoConfig.from_pretrained(folder).video_config  # its own is read from another level
    model, loaded = PeVideoModel.from_pretrained(folder, config=config, output_loading_info=True)
    assert not loaded["missing_keys"]
    sixteen = load(folders, "pe-av-base-16-frame")
    for name, scorer in (("pe-av-base", scorers["pe-av-base"]), ("pe-av-base-16-frame", sixteen)):
        scores = scorer(CLIPS, TEXTS)
        for path, row in zip(CLIPS, scores, strict=True):
            video = torch.from_numpy(np.stack(upright(path))).permute(0, 3, 1, 2)
            metadata = VideoMetadata(total_num_frames=len(video), fps=8.0)
            pixels = processor(
                [video],
                video_metadata=[metadata],
                do_sample_frames=name != "pe-av-base",  # 16 frames, or all
                return_tensors="pt",
            ).pixel_values_videos
            expected = model.eval()(**words, pixel_values_videos=pixels).logits_video_text[0]
            torch.testing.assert_close(row, expected, atol=1e-4, rtol=1e-5)
        assert scores.std() > 1


def test_pe_av_reads_other_frames_in_a_call(scorers):
    scorer, path = scorers["pe-av-base"], CLIPS[3]  # of 40 frames, 30 a second
    listed = frames(path, 40)
    chosen = {
        (("num_frames", 3),): [listed[n] for n in (0, 19, 39)],
        (("fps", 3.0),): [listed[n] for n in (0, 13, 26, 39)],
    }
    for call, expected in chosen.items():
        scores = scorer(path, TEXTS, **dict(call))
        near(scores, scorer(t2v_eval.Video.of(expected), TEXTS))
        assert (scores - scorer(path, TEXTS)).abs().max() > 0.1
        assert scorer.with_frames(**dict(call)).id != scorer.id


def test_an_image_is_a_video(folders, scorers):
    pixels = np.random.RandomState(0).randint(0, 255, (40, 60, 3), np.uint8)
    image = Image.fromarray(pixels)
    repeated = xclip_of_transformers(folders["xclip-base-patch32"], [[pixels] * XCLIP_FRAMES])
    near(scorers["xclip-base-patch32"](image, TEXTS), repeated)
    scorer = scorers["pe-av-base"]
    near(scorer(image, TEXTS), scorer(t2v_eval.Video.of([image]), TEXTS))


def test_a_long_text_is_said_to_be_cut_also_when_it_is_read_again(scorers):
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 1 texts are longer than the model reads"):
            scorers["xclip-base-patch32"](CLIPS[2], " ".join(["cat"] * 90))


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_accounted_for(folders, name, tmp_path):
    tensors = load_file(folders[name] / "model.safetensors")
    last = max(key for key in tensors if "text_model" in key)
    for file in folders[name].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    changes = {
        "lacks": {k: v for k, v in tensors.items() if k != last},
        "has the unexpected": {**tensors, "text_model.extra": torch.zeros(1)},
    }
    for what, changed in changes.items():
        save_file(changed, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=f"does not fit this model: it {what} weights"):
            load(folders, name, checkpoint=tmp_path)


def test_what_x_clip_cannot_read_is_named(folders, scorers):
    with pytest.raises(InputError, match="'xclip-base-patch32' has positions for 8 frames"):
        load(folders, "xclip-base-patch32", frames=16)
    with pytest.raises(InputError, match="`num_frames=4`: .* reads 8 frames of every video"):
        scorers["xclip-base-patch32"](CLIPS[0], TEXTS, num_frames=4)
    with pytest.raises(CheckpointError, match="a model of type 'pe_audio_video', not 'xclip'"):
        load(folders, "xclip-base-patch32", checkpoint=folders["pe-av-base"])
