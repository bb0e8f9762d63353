"""Every scorer of videos on odd files: the score of the frames in it, or an error that says why."""

from __future__ import annotations

import functools

import av
import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand, encode, image_of
from helpers.models.tiny import Small
from helpers.models.video import CLIPS
from PIL import Image, ImageSequence

import t2v_eval
from t2v_eval.errors import MediaError
from t2v_eval.inputs.media import Video
from t2v_eval.scoring.merging import merge
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.shard import Shard
from t2v_eval.store import Store

SCORERS = [
    "umt-b16-25m-itm",
    "internvideo2-1b-stage2-clip",
    "internvideo2-clip-b14",
    "viclip-l-14",
    "languagebind-video-v1.5-ft",
    "videoprism-lvt-base",
    "xclip-base-patch32",
    "pe-av-base",
    "videoscore-v1.1",
]
TEXTS = ["a red ball", "dog"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Odd files, each of which some model somewhere has misread."""
    at = tmp_path_factory.mktemp("odd")
    pictures = [Image.fromarray(image_of(k)) for k in (0, 4, 9, 15)]
    moving = {"save_all": True, "append_images": pictures[1:], "duration": [100, 300, 100, 500]}
    for name, options in (("a.gif", {}), ("a.webp", {"lossless": True}), ("a.png", {})):
        pictures[0].save(at / name, **moving, **options)
    pictures[1].save(at / "still.jpg")
    for count in (1, 2):
        encode(at / f"{count}.mp4", count)
    large = np.zeros((2160, 3840, 3), np.uint8) + np.arange(3840)[:, None].astype(np.uint8) // 16
    with av.open(str(at / "4k.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(large)), *stream.encode()]:
            container.mux(packet)
    whole = encode(at / "whole.mp4", 60, seed=1, movflags="faststart").read_bytes()
    (at / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    tail = encode(at / "tail.mp4", 60, seed=1).read_bytes()
    (at / "tail.mp4").write_bytes(tail[:-200])  # half of its table of frames
    (at / "empty.mp4").write_bytes(b"")
    (at / "text.mp4").write_bytes(b"this is no video")
    with av.open(str(at / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return at


@functools.cache
def decoded(path):
    """The frames of a file, upright, without the code under test."""
    if path.suffix in (".gif", ".webp", ".png", ".jpg"):
        with Image.open(path) as image:
            return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    frames = [np.rot90(f, -1) if path.stem == "rotated" else f for f in by_hand(path)]
    return [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]


BROKEN = {
    "cut.mp4": r"the video is cut: it has \d+ of 60 frames; fetch it again",
    "tail.mp4": "not a video that can be decoded: .*; fetch it again, or encode it again",
    "empty.mp4": r"the file is empty \(0 bytes\)",
    "text.mp4": "not a video that can be decoded: .*; fetch it again, or encode it again",
    "sound.mp4": "no video can be found in it, but audio: pass a file with pictures",
}


@pytest.mark.parametrize("variant", SCORERS)
def test_odd_videos(small, folder, variant):
    scorer = small.load(variant)
    animated = [folder / name for name in ("a.gif", "a.webp", "a.png")]
    videos = [*animated, folder / "1.mp4", folder / "2.mp4", *CLIPS[1:]]
    videos += [folder / "4k.mp4"] if variant == "videoscore-v1.1" else []  # decoded as by all
    scores = scorer([*videos, folder / "still.jpg"], TEXTS)
    handed = [Video.of(decoded(path)) for path in videos] + decoded(folder / "still.jpg")
    torch.testing.assert_close(scores, scorer(handed, TEXTS), atol=1e-5, rtol=1e-5)
    assert (scores[1] - scorer(decoded(animated[1])[0], TEXTS)[0]).abs().max() > 1e-4
    for name, message in BROKEN.items():
        with pytest.raises(MediaError, match=message) as caught:
            scorer(folder / name, TEXTS)
        assert name in str(caught.value)
    partly = scorer.computing_anew()([folder / "cut.mp4", videos[1], folder / "sound.mp4"], TEXTS)
    assert partly.isnan().tolist() == [[True] * 2, [False] * 2, [True] * 2]


def test_a_shown_image_is_what_it_shows(small, folder):
    scorer = small.load("pe-av-base")
    with Image.open(folder / "a.gif") as image:
        image.seek(2)
        frame = image.convert("RGB")
        torch.testing.assert_close(scorer(image, TEXTS), scorer(frame, TEXTS))


def test_frames_of_an_animation_are_chosen_by_its_durations(small, folder):
    scorer, frames = small.load("pe-av-base"), decoded(folder / "a.gif")  # 4 in a second
    expected = scorer(t2v_eval.Video.of([frames[0], frames[3]]), TEXTS)
    torch.testing.assert_close(scorer(folder / "a.gif", TEXTS, fps=2.0), expected)


@pytest.mark.parametrize("variant", ["umt-b16-25m-itm", "pe-av-base"])
def test_what_is_stored_by_shards_is_not_read_again(small, tmp_path, monkeypatch, variant):
    blocks = {n: Shard(n, 2).part_of(Block(CLIPS, TEXTS)) for n in (1, 2)}
    files = {n: tmp_path / f"{n}.sqlite" for n, block in blocks.items() if block.images}
    for n, file in files.items():
        small.load(variant, store=file)(blocks[n].images, TEXTS)
    merge(Store(tmp_path / "all.sqlite"), [*files.values()])
    scorer = small.load(variant, store=tmp_path / "all.sqlite")
    expected = scorer.computing_anew()(CLIPS, TEXTS)
    read, load = [], type(scorer).load
    monkeypatch.setattr(
        type(scorer), "load", lambda self, media: read.append(media) or load(self, media)
    )
    torch.testing.assert_close(scorer(CLIPS, TEXTS), expected, atol=1e-5, rtol=1e-5)
    assert not read
    if not scorer.fixed_count:
        fewer = scorer(CLIPS[:2], TEXTS, num_frames=2)
        assert len(read) == 2 and (fewer - expected[:2]).abs().max() > 1e-3
        assert torch.equal(scorer(CLIPS[:2], TEXTS, num_frames=2), fewer) and len(read) == 2
