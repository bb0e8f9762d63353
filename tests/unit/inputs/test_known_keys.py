"""Files that one scorer has hashed are not read again for the next, unless they were written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, draw_image, expected

from t2v_eval.errors import MediaError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import PAIR, ImageGroup, Media, open_media
from t2v_eval.scoring.plan import Block, Cells, Text
from t2v_eval.scoring.preferences import PreferenceMixin
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.utils import regular_file
from t2v_eval.utils.regular_file import KEYS, SETTLED_NS, File, KnownKeys, digest


def of_key(media: Media) -> float:
    """A score that is another for every content."""
    return int(media.key[:6], 16) / 2**24


class ByKey(Scorer):
    """Scores images by their keys, as a store does, and reads no file."""

    version = "1"

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for n, i in enumerate(cells[:, 0].tolist()):
            if images[i].is_broken:
                with pytest.raises(MediaError) as raised:
                    self.load_image(images[i])
                yield ScoreChunk(np.array([n]), None, str(raised.value))
            else:
                yield ScoreChunk(np.array([n]), torch.tensor([of_key(images[i])]))


class PairByKey(PreferenceMixin):
    """Prefers the image with the larger key."""

    image_roles = PAIR
    version = "1"

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for n, i in enumerate(cells[:, 0].tolist()):
            pair = images[i]
            assert isinstance(pair, ImageGroup)
            first, second = map(of_key, pair.images)
            yield ScoreChunk(np.array([n]), torch.tensor([float(first > second)]))


def drawn(folder, count):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{n}.png" for n in range(count)]
    for n, path in enumerate(paths):
        draw_image(n).save(path)
    return paths


def fresh(path):
    """The score of a file's content, which no other call has opened."""
    return int(digest(path.read_bytes())[:6], 16) / 2**24


@pytest.mark.usefixtures("later")
def test_two_scorers_open_each_file_once(tmp_path, opened):
    paths = drawn(tmp_path, 7)
    scores = [ByKey()(paths, ["a cat", "a dog"]) for _ in range(2)]
    assert opened == {path.name: 1 for path in paths}
    for of_scorer in scores:
        np.testing.assert_allclose(of_scorer[:, 0], [*map(fresh, paths)], rtol=1e-6)


@pytest.mark.usefixtures("soon")
def test_a_file_that_was_just_written_is_read_again(tmp_path, opened):
    paths = drawn(tmp_path, 3)
    for _ in range(2):
        ByKey()(paths, "a cat")
    assert opened == {path.name: 2 for path in paths}


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("kept_times", [False, True])
def test_a_file_that_was_replaced_between_scorers_is_read_again(tmp_path, opened, kept_times):
    paths = drawn(tmp_path, 4)
    first = ByKey()(paths, "a cat")[:, 0]
    other = tmp_path / "other"
    other.write_bytes(paths[2].read_bytes()[:-1] + b"?")
    if kept_times:
        shutil.copystat(paths[2], other)
    other.replace(paths[2])
    paths[3].write_bytes(paths[0].read_bytes())
    second = ByKey()(paths, "a cat")[:, 0]
    assert opened == {"0.png": 1, "1.png": 1, "2.png": 2, "3.png": 2}
    np.testing.assert_allclose(second, [*map(fresh, paths)], rtol=1e-6)
    assert (first != second).tolist() == [False, False, True, True]


@pytest.mark.usefixtures("later")
def test_each_scorer_reports_what_cannot_be_opened(tmp_path, opened):
    paths = drawn(tmp_path, 4)
    paths[1].unlink()
    paths[2].write_bytes(b"")
    results = [ByKey(on_error="skip").evaluate_blocks([Block(paths, ["a cat"])]) for _ in range(2)]
    for result in results:
        assert {cell: reason.split(": ")[1] for cell, reason in result.failures.items()} == {
            (0, 1, 0): "no such file",
            (0, 2, 0): "the file is empty (0 bytes)",
        }
    for _ in range(2):
        with pytest.raises(MediaError, match=r"1\.png\): no such file"):
            ByKey()(paths, "a cat")
    draw_image(1).save(paths[1])
    paths[2].unlink()
    result = ByKey(on_error="skip").evaluate_blocks([Block(paths, ["a cat"])])
    assert result.scores[0][1, 0] == pytest.approx(fresh(paths[1]))
    assert result.failures.keys() == {(0, 2, 0)}
    assert opened["0.png"] == opened["3.png"] == 1


@pytest.mark.usefixtures("later")
def test_pixels_are_those_of_the_key(tmp_path):
    paths = drawn(tmp_path, 2)
    scores = [ToyEmbedding(device="cpu")(paths, "a cat")[:, 0] for _ in range(2)]
    for of_scorer in scores:
        direct = [expected(draw_image(n), "a cat") for n in range(2)]
        np.testing.assert_allclose(of_scorer, direct, rtol=1e-5)
    known = open_media(paths[0])
    draw_image(1).save(paths[0])
    with pytest.raises(MediaError, match="changed while it was being scored; run again"):
        known.load()


@pytest.mark.usefixtures("later")
def test_a_judge_of_pairs_opens_each_file_once(tmp_path, opened):
    paths = drawn(tmp_path, 4)
    pairs = [(a, b, "a cat") for a, b in combinations(paths, 2)]
    for _ in range(2):
        preferences = PairByKey().prefer_all(pairs)
        wins = [float(fresh(a) > fresh(b)) for a, b, _ in pairs]
        assert [preference.value for preference in preferences] == wins
    assert opened == {path.name: 1 for path in paths}


@pytest.mark.usefixtures("later")
def test_the_scorers_of_a_report_open_each_file_once(tmp_path, opened):
    folders = [tmp_path / name for name in ("flux", "sdxl")]
    paths = [path for folder in folders for path in drawn(folder, 5)]
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("prompt\n" + "".join(f"picture {n} of a house\n" for n in range(5)))
    benchmark = open_benchmark(str(prompts), images=folders)
    items = benchmark.selected()
    runs = [evaluate(ByKey(), benchmark, items=items, resamples=2) for _ in range(3)]
    assert {name: opened[name] for name in (f"{n}.png" for n in range(5))} == {
        f"{n}.png": 2 for n in range(5)
    }
    direct = np.array([*map(fresh, paths)]).reshape(2, 5).T
    for run in runs:
        np.testing.assert_allclose([s[:, 0] for s in run.scores], direct, rtol=1e-6)
    assert len({run.data for run in runs}) == 1


def test_a_key_is_that_of_one_state(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    file, keys = File.snapshot(path), KnownKeys()
    keys.remember(file, "key", file.ctime_ns + SETTLED_NS - 1)
    assert keys.get(file) is None, "it may be written again without another time"
    keys.remember(file, "key", file.ctime_ns + SETTLED_NS)
    assert keys.get(File.snapshot(path)) == "key"
    os.link(path, tmp_path / "b.bin")
    assert keys.get(File.snapshot(path)) is None


def test_not_all_keys_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(regular_file, "MAX_KEYS", 2)
    keys = KnownKeys()
    files = [File.snapshot(path) for path in drawn(tmp_path, 3)]
    for file in files:
        keys.remember(file, file.path.name, file.ctime_ns + SETTLED_NS)
    assert [keys.get(file) for file in files] == ["0.png", "1.png", None]


@pytest.mark.usefixtures("later")
def test_a_video_is_hashed_once(tmp_path, opened):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a video")
    assert open_media(path).key == open_media(path).key != open_media(b"a video").key
    assert opened == {"a.mp4": 1} and KEYS.get(File.snapshot(path)) == digest(b"a video")


def linked(folder, *, flipped):
    """Point the link `a` to `b` or `c`."""
    link = folder / "link"
    link.symlink_to("c" if flipped else "b")
    link.replace(folder / "a")


def renamed(folder, *, flipped):
    """Exchange the folders `a` and `c`; the files in them stay in the same state."""
    del flipped
    for old, new in (("a", "kept"), ("c", "a"), ("kept", "c")):
        (folder / old).rename(folder / new)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("suffix", [".png", ".mp4"])
@pytest.mark.parametrize("flip", [linked, renamed])
def test_a_path_that_led_elsewhere_for_a_moment(tmp_path, monkeypatch, flip, suffix):
    for name in ("c", "b") if flip is linked else ("c", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"0{suffix}").write_bytes(f"content of {name}".encode())
    if flip is linked:
        flip(tmp_path, flipped=False)
    path = tmp_path / "a" / f"0{suffix}"
    content = path.read_bytes()
    original = regular_file.open_regular

    def opening(path):
        flip(tmp_path, flipped=True)
        stream = original(path)
        flip(tmp_path, flipped=False)
        return stream

    with monkeypatch.context() as patched:
        patched.setattr(regular_file, "open_regular", opening)
        other = open_media(path)
    assert path.read_bytes() == content
    if suffix == ".mp4":
        with pytest.raises(MediaError, match="changed while it was being scored"):
            other.source.check("video")
        assert open_media(path).key == digest(f"video {digest(content)}".encode())
    else:
        assert other.key == digest(b"content of c")
        assert open_media(path).key == digest(content)


@pytest.mark.usefixtures("later")
def test_the_key_of_a_file_that_changed_in_the_same_state_is_forgotten(tmp_path, monkeypatch):
    paths = drawn(tmp_path, 2)
    # A file system that keeps no time of a change, where the other times can be set.
    monkeypatch.setattr(regular_file, "identity", lambda status: (1, 2, 3, 4, 5))
    assert open_media(paths[0]).key == digest(paths[0].read_bytes())
    paths[1].replace(paths[0])
    with pytest.raises(MediaError, match="changed while it was being scored; run again"):
        open_media(paths[0]).load()
    again = open_media(paths[0])
    assert again.key == digest(paths[0].read_bytes())
    assert again.load().size == draw_image(1).size


@pytest.mark.parametrize(
    ("number", "creation_times"), [(0, False), (7, True)], ids=["no numbers", "no times of change"]
)
def test_files_that_cannot_be_told_apart_are_read_again(
    tmp_path, monkeypatch, number, creation_times
):
    monkeypatch.setattr(regular_file, "_CREATION_TIMES", creation_times)
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    file, keys = replace(File.snapshot(path), inode=number), KnownKeys()
    keys.remember(file, "key", file.ctime_ns + SETTLED_NS)
    assert keys.get(file) is None
