"""A file is read once: its bytes lie in memory until it is decoded, if the budget has room."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.toy import ToyEmbedding, draw_image
from PIL import Image

from t2v_eval.errors import MediaError
from t2v_eval.inputs import media as media_module
from t2v_eval.inputs.decode_budget import BUDGET, VARIABLE, Budget, spare_bytes
from t2v_eval.inputs.media import decode, open_media

MIB = 1 << 20


@pytest.fixture
def small(monkeypatch):
    """A budget of 4 MiB, of which 1 MiB may be spare bytes."""
    monkeypatch.setenv(VARIABLE, "4")
    assert spare_bytes() == MIB
    return Budget()


def drawn(folder, count, side=12):
    paths = [folder / f"{n}.bmp" for n in range(count)]
    for n, path in enumerate(paths):
        draw_image(n, (side, side)).save(path)
    return paths


def test_a_call_reads_each_file_once(tmp_path, opened):
    paths = drawn(tmp_path, 6)
    scores = ToyEmbedding(device="cpu")(paths, ["a cat", "a dog"])
    assert opened == {path.name: 1 for path in paths}
    in_memory = [Image.open(path).convert("RGB") for path in paths]
    np.testing.assert_array_equal(scores, ToyEmbedding(device="cpu")(in_memory, ["a cat", "a dog"]))


def test_without_room_files_are_read_again(tmp_path, opened, monkeypatch):
    monkeypatch.setenv(VARIABLE, "4")
    paths = drawn(tmp_path, 5, side=320)  # of 307,254 bytes each, so that three fit
    media = [open_media(path) for path in paths]
    for n, item in enumerate(media):
        np.testing.assert_array_equal(decode(item), draw_image(n, (320, 320)))
    # The oldest were dropped; decoding one takes 1.6 of the 4 MiB, which leaves room for the rest.
    assert [opened[path.name] for path in paths] == [2, 2, 1, 1, 1]


@pytest.mark.usefixtures("soon")
def test_a_file_larger_than_the_room_has_the_same_key(tmp_path, opened, monkeypatch):
    (path,) = drawn(tmp_path, 1, side=320)
    key = open_media(path).key
    monkeypatch.setattr(media_module, "spare_bytes", lambda: 1000)
    large = open_media(path)
    assert large.key == key
    np.testing.assert_array_equal(decode(large), draw_image(0, (320, 320)))
    assert opened[path.name] == 3


def test_a_file_that_was_written_again_with_the_same_bytes_is_decoded(tmp_path, opened):
    (path,) = drawn(tmp_path, 1)
    item = open_media(path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(decode(item), draw_image(0, (12, 12)))
    assert opened[path.name] == 2
    draw_image(1, (12, 12)).save(path)
    with pytest.raises(MediaError, match="changed while it was being scored; run again"):
        decode(item)


def test_bytes_go_with_the_image(tmp_path):
    gc.collect()
    before = BUDGET.spare_size
    paths = drawn(tmp_path, 3)
    media = [open_media(path) for path in paths]
    assert BUDGET.spare_size == before + sum(path.stat().st_size for path in paths)
    del media
    gc.collect()
    assert BUDGET.spare_size == before


def test_the_oldest_bytes_are_dropped_for_new_ones(small):
    spares = [small.spare(bytes(MIB // 4)) for _ in range(6)]
    assert [spare.content is not None for spare in spares] == [False] * 2 + [True] * 4
    assert small.spare_size == MIB
    assert small.spare(bytes(MIB + 1)).content is None
    assert small.spare_size == MIB  # nothing is dropped for what does not fit at all


def test_bytes_are_dropped_for_a_thread_that_reserves_their_room(small):
    spares = [small.spare(bytes(MIB // 4)) for _ in range(4)]
    with small.lease():
        small.reserve(3 * MIB + MIB // 2)
        assert [spare.content is not None for spare in spares] == [False] * 2 + [True] * 2
        assert small.spare(bytes(MIB // 2)).content is not None
        assert small.spare(bytes(MIB)).content is None
        small.reserve(MIB)  # beyond the budget, as no other thread holds any of it
        assert small.spare_size == 0


def test_threads_and_spare_bytes_never_hold_more_than_the_budget(small):
    def work(n):
        spare = small.spare(bytes((n % 7 + 1) * 40_000))
        with small.lease():
            small.reserve((n % 4 + 1) * MIB // 2)
            return spare, small.used

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(400)))
    size = sum(len(spare.content or b"") for spare, _ in results)
    assert size == small.spare_size <= MIB
    assert max(used for _, used in results) <= 4 * MIB
    del results
    gc.collect()
    assert small.spare_size == small.used == 0
