"""Frames of videos that the tests encode themselves, against frames decoded one by one."""

import math
import os
import struct
import sys
import threading
from collections import deque
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.media.videos import SIZE, by_hand, encode
from helpers.toy import ToyEmbedding, expected
from PIL import Image

from t2v_eval.errors import InputError, MediaError, MissingPackageError
from t2v_eval.inputs import video
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.inputs.video import Sampling, clip, frames, indices, strip


def pixels(media):
    return np.asarray(decode(media))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.avi", "clip.mkv"])
def test_frames_are_those_decoded_by_hand(tmp_path, name):
    path = encode(tmp_path / name)
    whole = by_hand(path)
    assert len(whole) == 20
    assert [int(frame[0, -1, 0]) for frame in whole] == pytest.approx(range(0, 240, 12), abs=3)
    for maximum, choose, frame_indices in (
        (5, "uniform", [0, 4, 9, 14, 19]),
        (3, "first", [0, 1, 2]),
        (1, "uniform", [9]),
        (36, "first", range(20)),
        (20, "uniform", range(20)),
    ):
        actual = frames(path, maximum, choose)
        assert len(actual) == len(frame_indices)
        for item, n in zip(actual, frame_indices, strict=True):
            np.testing.assert_array_equal(pixels(item), whole[n])
            assert item.name == f"{path}, frame {n}"


def test_frames_of_a_gif(tmp_path):
    images = [Image.new("RGB", (16, 16), (20 * k, 0, 0)) for k in range(6)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    reds = [int(pixels(item)[0, 0, 0]) for item in frames(tmp_path / "a.gif", 3)]
    assert reds == [0, 40, 100]


def test_which_frames():
    for total in range(1, 50):
        for maximum in range(1, 50):
            even = indices(total, maximum)
            assert even == sorted(set(even)) and len(even) == min(total, maximum)
            assert even[0] >= 0 and even[-1] < total
            if 1 < maximum < total:
                steps = [Fraction(k * (total - 1), maximum - 1) for k in range(maximum)]
                assert even == [math.floor(step) for step in steps]
            assert indices(total, maximum, "first") == list(range(total))[:maximum]
    for maximum, choose in ((0, "first"), (4, "random")):
        with pytest.raises(InputError, match="use 1 or more, by 'uniform' or .* or 'first'"):
            indices(9, maximum, choose)


def mplug_owl3(total, fps, most):
    """A frame a second, of a list that is cut into parts where it is too long."""
    listed = list(range(0, total, round(fps / 1)))
    if len(listed) > most:
        gap = len(listed) / most
        listed = [listed[int(i * gap + gap / 2)] for i in range(most)]
    return listed


def test_frames_of_mplug_owl3_are_those_of_its_authors():
    for maximum in (1, 7, 16):
        sampling = Sampling(fps=1.0, most=maximum, choose="seconds")
        for fps in (1.0, 8.0, 23.976, 24.5, 25.0, 25.5, 29.97, 60.0):
            for total in range(1, 2000, 13):
                assert sampling.indices(total, fps) == mplug_owl3(total, fps, maximum)
    twice = Sampling(fps=2.0, choose="seconds")
    assert twice.indices(100, 30.0) == [0, 15, 30, 45, 60, 75, 90]
    assert twice.indices(5, 0.4) == [0, 1, 2, 3, 4], "all, where there are fewer in a second"
    with pytest.raises(InputError, match="for choose 'uniform' or .*, or with fps 'seconds'"):
        Sampling(count=4, choose="seconds")
    with pytest.raises(InputError, match="use 1 or more, by 'uniform' or"):
        indices(9, 4, "seconds")


def middles(total, count):
    """Frames of `get_frame_indices` of UMT and InternVideo2, written out."""
    ends = [int(end) for end in np.linspace(start=0, stop=total, num=min(total, count) + 1)]
    return [(ends[n] + ends[n + 1] - 1) // 2 for n in range(len(ends) - 1)]


@pytest.mark.parametrize("fill", [0, 1, 4])
def test_middle_frames_are_those_of_umt(fill):
    for total in range(1, 70):
        for count in (1, 3, 4, 8):
            expected = middles(total, count)
            if 0 < fill <= total:
                expected += expected[-1:] * (count - len(expected))
            sampling = Sampling(count, choose="middle-frame", fill=fill)
            assert sampling.indices(total, 8.0) == expected


def test_a_short_video_is_filled_with_its_last_frame(tmp_path):
    path = encode(tmp_path / "short.mp4", count=3)
    filled = clip(open_media(path), Sampling(count=5, fill=2))
    assert filled.places == [0, 1, 2, 2, 2]
    assert (filled.total, len(filled.frames)) == (3, 5)
    for n, frame in zip(filled.places, filled.frames, strict=True):
        assert (np.asarray(frame) == by_hand(path)[n]).all()


def test_a_frame_s_key_is_the_video_s_content_and_which_frame(tmp_path):
    original, same = encode(tmp_path / "1.mp4"), tmp_path / "2.mp4"
    same.write_bytes(original.read_bytes())
    other = encode(tmp_path / "3.mp4", seed=1)
    keys = [[media.key for media in frames(path, 5)] for path in (original, same, other)]
    assert keys[0] == keys[1] and not {*keys[0]} & {*keys[2]} and len({*keys[0]}) == 5
    first = [media.key for media in frames(original, 5, "first")]
    assert first[0] == keys[0][0] and first[4] == keys[0][1], "frames 0 and 4 are in both"
    assert len({*first, *keys[0]}) == 8
    assert not {media.key for media in frames(original, 5, jpeg=True)} & {*keys[0]}


def test_jpeg_rounds_as_a_file_does(tmp_path):
    path = encode(tmp_path / "a.mp4", seed=1)
    Image.fromarray(by_hand(path)[19]).save(tmp_path / "19.jpg")
    result = frames(path, 2, jpeg=True)[1]
    np.testing.assert_array_equal(pixels(result), np.asarray(Image.open(tmp_path / "19.jpg")))


def test_a_video_is_decoded_once_for_all_its_frames(tmp_path, monkeypatch):
    decoded = []
    whole = video._decode
    monkeypatch.setattr(video, "_decode", lambda *a: decoded.append(a[1]) or whole(*a))
    scorer = ToyEmbedding()
    paths = [encode(tmp_path / f"{n}.mp4", seed=n) for n in range(1, 4)]
    taken = [media for path in paths for media in frames(path, 8)]
    scores = scorer(images=taken, texts=["a dog runs", "a cat"])
    assert sorted(decoded) == [*map(str, paths)]
    wanted = [
        expected(Image.fromarray(by_hand(path)[n]), "a cat")
        for path in paths
        for n in indices(20, 8)
    ]
    np.testing.assert_allclose(scores[:, 1], wanted, atol=1e-6)
    # Threads that ask at the same time wait for one decoding.
    actual = frames(paths[0], 20)
    threads = [threading.Thread(target=item.load) for item in actual]
    decoded.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decoded == [str(paths[0])]


def test_little_is_held_at_a_time(tmp_path, monkeypatch):
    # Three of one video, four of the next; none of the videos of earlier tests.
    monkeypatch.setattr(video, "CACHE_BYTES", 7 * 3 * 32 * 24)
    monkeypatch.setattr(video, "_caches", deque())
    path = encode(tmp_path / "a.mp4")
    several = [frames(path, 4) for _ in range(5)]
    for result in several:
        result[0].load()
    assert len(video._caches) == 2 and sum(len(item.decoded) for item in video._caches) == 6
    # What was let go is decoded anew; what is all taken is forgotten.
    np.testing.assert_array_equal(pixels(several[0][3]), by_hand(path)[19])
    for result in several:
        for item in result[:3]:
            item.load()
    assert sum(len(item.decoded) for item in video._caches) <= 7


def test_a_turned_video_is_seen_upright(tmp_path):
    path = encode(tmp_path / "a.mp4", count=2)
    content = bytearray(path.read_bytes())
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = content.find(plain, content.find(b"tkhd"))
    # The matrix of the track's header: a quarter turn clockwise.
    content[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    actual = pixels(frames(path, 1, "first")[0])
    np.testing.assert_array_equal(actual, np.rot90(by_hand(path)[0], -1))


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def spoil(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 800] = bytes(800)
    path.write_bytes(content)


def rewrite(path):
    path.write_bytes(b"this is no video")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"the video is cut: it has \d+ of 60 frames; fetch it again"),
        (spoil, "of the video is broken; fetch it again|not a video that can be decoded"),
        (
            rewrite,
            "not a video that can be decoded: Invalid data .*; fetch it again, or encode it again",
        ),
        (lambda path: path.unlink(), "the video cannot be read: No such file"),
        (lambda path: path.write_bytes(b""), "not a video that can be decoded"),
    ],
)
def test_what_is_no_whole_video_is_named(tmp_path, change, message):
    path = encode(tmp_path / "a.mp4", 60, seed=1, movflags="faststart")
    change(path)
    with pytest.raises(MediaError, match=message) as caught:
        for item in frames(path, 60):
            item.load()
    assert str(path) in str(caught.value)


def test_a_video_that_changes_after_it_was_hashed_is_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", count=4)
    whole, parts = open_media(path), frames(path, 2)
    before = path.stat()
    encode(path, count=4, seed=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    for see in (lambda: clip(whole, Sampling(2)), parts[0].load):
        with pytest.raises(MediaError, match="a.mp4.*changed while it was being scored; run again"):
            see()
    assert len(clip(open_media(path), Sampling(2)).frames) == 2


def test_a_broken_video_fails_its_cells_once(tmp_path, monkeypatch):
    decoded = []
    whole = video._decode
    monkeypatch.setattr(video, "_decode", lambda *a: decoded.append(a[1]) or whole(*a))
    path = encode(tmp_path / "a.mp4", 60, seed=1, movflags="faststart")
    spoil(path)
    result = frames(path, 6)
    whole_one = frames(encode(tmp_path / "b.mp4"), 2)
    scores = ToyEmbedding(on_error="skip")(images=[*result, *whole_one], texts="a cat")
    assert scores[:6].isnan().all() and not scores[6:].isnan().any()
    assert decoded.count(str(path)) == 1


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mpeg4"), ("a.webm", "libvpx-vp9")])
def test_a_container_that_counts_no_frames_and_is_cut(tmp_path, name, codec):
    path = encode(tmp_path / name, 60, codec=codec, seed=1)
    assert len(frames(path, 99)) == 60
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match=r"the video is cut: it has \d+ of more frames; fetch it"):
        frames(path, 4)


def test_a_video_that_an_edit_makes_shorter_is_not_cut(tmp_path):
    """Copied with times one second earlier, so that its first frames are before the beginning."""
    path, edited = encode(tmp_path / "a.mp4", 40, seed=1, gop=8), tmp_path / "b.mp4"
    with av.open(str(path)) as source, av.open(str(edited), "w") as target:
        video_stream = source.streams.video[0]
        stream = target.add_stream_from_template(video_stream)
        for packet in source.demux(video_stream):
            if packet.dts is not None:
                packet.pts -= int(2 / video_stream.time_base)
                packet.dts -= int(2 / video_stream.time_base)
                packet.stream = stream
                target.mux(packet)
    with av.open(str(edited)) as container:
        declared = container.streams.video[0].frames
    array = by_hand(edited)
    assert len(array) < declared
    result = frames(edited, 99)
    assert len(result) == len(array)
    np.testing.assert_array_equal(pixels(result[0]), array[0])


def test_a_strip_is_frames_side_by_side(tmp_path):
    path = encode(tmp_path / "a.mp4", 20, seed=1)
    whole, (width, height) = by_hand(path), SIZE
    array = np.asarray(decode(strip(path, 4, gap=10)))
    assert array.shape == (height, 4 * width + 3 * 10, 3)
    for k, n in enumerate((0, 5, 10, 15)):
        left = k * (width + 10)
        np.testing.assert_array_equal(array[:, left : left + width], whole[n])
        assert not array[:, left + width : left + width + 10].any()
    keys = {strip(path, n, gap=g).key for n, g in ((4, 10), (5, 10), (4, 9))}
    assert len(keys) == 3 and strip(path, 4).key in keys
    scores = ToyEmbedding()([strip(path, 4), strip(path, 4)], "cat")
    assert scores[0] == scores[1] and scores.isfinite().all()


def test_without_the_package_the_command_is_said(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"pip install 't2v-eval\[video\]'"):
        frames(path, 4)


def test_a_video_given_as_an_image_says_what_to_do(tmp_path):
    path = encode(tmp_path / "a.mp4")
    video = open_media(path)
    with pytest.raises(MediaError, match=r"a.mp4\): is a video.*inputs.video.frames\(path, 16\)"):
        decode(video)


@pytest.mark.parametrize(
    ("options", "total", "count"),
    [
        ({}, 90, 3),  # three seconds of 30 frames
        ({"multiple": 2}, 90, 2),  # down to a multiple
        ({"least": 8}, 90, 8),
        ({"least": 5, "multiple": 4}, 90, 8),
        ({"least": 8}, 5, 5),  # no more than there are
        ({"most": 2}, 90, 2),
        ({"most": 3, "multiple": 2}, 90, 2),
        ({"multiple": 4}, 3, 1),  # one where there is no multiple
        ({"multiple": 2, "choose": "rounded"}, 90, 4),  # half to the even multiple
        ({"multiple": 2, "choose": "rounded"}, 3, 2),  # no more than there are
    ],
)
def test_how_many_frames_a_second_are(options, total, count):
    chosen = Sampling(fps=1.0, **options).indices(total, 30.0)
    assert len(chosen) == count and chosen == sorted(chosen)
    assert chosen[0] >= 0 and chosen[-1] < total
