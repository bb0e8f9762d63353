"""The memory that decoding takes: reserved over all threads, with a limit that messages name."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.processes import HANGING
from helpers.toy import ToyEmbedding, draw_image
from PIL import Image, ImageOps

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs import image_file, video
from t2v_eval.inputs.decode_budget import LARGEST, VARIABLE, Budget, budget_bytes
from t2v_eval.inputs.image_file import PIXEL_BYTES, to_upright_rgb
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.inputs.video import FRAME_BYTES, Sampling, clip, frames

MIB = 1 << 20


@pytest.fixture
def small(monkeypatch):
    """A budget of 4 MiB."""
    monkeypatch.setenv(VARIABLE, "4")
    return Budget()


def png(width, height, bits=8, colour=2):
    """A PNG of nothing but zeros, which is small."""

    def chunk(kind, body):
        checksum = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + checksum

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    row = bytes(1 + width * channels * bits // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_threads_never_hold_more_than_the_budget(small):
    maximum, inside = [0], threading.Lock()

    def work(n):
        with small.lease():
            small.reserve((n % 4 + 1) * MIB // 2)
            with inside:
                maximum[0] = max(maximum[0], small.used)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(400)))
    assert 0 < maximum[0] <= 4 * MIB
    assert small.used == 0


def test_who_needs_more_than_all_runs_alone(small):
    alone, others, seen = threading.Event(), [0], []
    lock = threading.Lock()

    def work(size):
        with small.lease():
            small.reserve(size)
            with lock:
                others[0] += 1
                seen.append((size, others[0]))
            with lock:
                others[0] -= 1

    sizes = [MIB, 9 * MIB, MIB, MIB, 9 * MIB, MIB] * 20
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, sizes))
    assert all(count == 1 for size, count in seen if size > 4 * MIB)
    assert len(seen) == len(sizes) and small.used == 0
    assert not alone.is_set()


def test_threads_that_hold_a_part_and_want_more_do_not_block_each_other(small):
    together = threading.Barrier(4, timeout=HANGING)

    def work(_):
        with small.lease():
            small.reserve(MIB)
            together.wait()  # all hold a part, and the budget is used up
            with small.lease():
                small.reserve(2 * MIB)
            return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4), timeout=HANGING)) == [True] * 4
    assert small.used == 0


def test_an_error_gives_back_what_was_reserved(small):
    with pytest.raises(ZeroDivisionError), small.lease():
        small.reserve(MIB)
        raise ZeroDivisionError
    assert small.used == 0
    with pytest.raises(RuntimeError):
        small.reserve(1)


def test_images_of_all_threads_count(monkeypatch):
    monkeypatch.setenv(VARIABLE, "4")
    side = 300  # one takes 1.4 MiB, so that two fit
    decoded, maximum, lock = [0], [0], threading.Lock()

    class Counting(ToyEmbedding):
        def preprocess(self, image):
            with lock:
                decoded[0] += 1
                maximum[0] = max(maximum[0], decoded[0])
            row = super().preprocess(image)
            with lock:
                decoded[0] -= 1
            return row

    monkeypatch.setattr("t2v_eval.local.batching.os.cpu_count", lambda: 8)
    images = []
    for n in range(24):
        stream = io.BytesIO()
        draw_image(n, (side, side)).save(stream, "PNG")
        images.append(stream.getvalue())
    assert 2 <= 4 * MIB // (side * side * PIXEL_BYTES) < 3
    assert Counting(device="cpu")(images, "a cat").isfinite().all()
    assert 1 <= maximum[0] <= 2


def test_what_is_too_large_even_alone_names_the_limit(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "1")
    assert budget_bytes() == MIB
    fits = int((LARGEST * MIB / PIXEL_BYTES) ** 0.5)
    path = tmp_path / "huge.png"
    for side, refused in ((fits, False), (fits + 1, True)):
        path.write_bytes(png(side, side))
        for source in (path, path.read_bytes(), Image.new("RGB", (side, side))):
            if refused:
                with pytest.raises(MediaError, match=f"pixels would take.*{VARIABLE}"):
                    decode(open_media(source))
            else:
                assert decode(open_media(source)).size == (side, side)
    path.write_bytes(bytes(LARGEST * MIB + 1))
    with pytest.raises(MediaError, match=rf"huge.png.*a file of \d+ bytes.*{VARIABLE}"):
        open_media(path)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1" * 30])
def test_the_variable_is_a_whole_number(value, monkeypatch):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InputError, match=f"{VARIABLE}='.*use a whole number of MiB"):
        ToyEmbedding(on_error="skip")(draw_image(0), "a cat")


def test_pillow_s_own_limit_holds(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MediaError, match="MAX_IMAGE_PIXELS"):
        decode(open_media(png(64, 64)))


def film(path, size=(320, 240), count=30):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(count):
            pixels = np.full((size[1], size[0], 3), 8 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_videos_count_too_and_name_the_limit(monkeypatch, tmp_path):
    path = film(tmp_path / "a.mp4")
    whole = clip(open_media(path), Sampling(30))
    own = 4 * 320 * 240
    monkeypatch.setenv(VARIABLE, "2")
    with pytest.raises(MediaError, match=rf"a.mp4.*320 x 240.*frames=.*{VARIABLE}"):
        clip(open_media(path), Sampling(30))
    fits = (LARGEST * 2 * MIB - FRAME_BYTES * 320 * 240) // own
    assert len(clip(open_media(path), Sampling(fits)).frames) == fits < 30
    small = clip(open_media(path), Sampling(30), fit=lambda frame, _: frame.resize((32, 24)))
    assert len(small.frames) == len(whole.frames) == 30, "made smaller as they are decoded"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 320 * 240 // 2 - 1)
    with pytest.raises(MediaError, match="exceeds the limit of .* pixels per frame.*MAX_IMAGE"):
        clip(open_media(path), Sampling(1))


def test_of_a_long_video_a_part_is_held_at_a_time(monkeypatch, tmp_path):
    path = film(tmp_path / "a.mp4")
    expected = [np.asarray(frame.load()) for frame in frames(path, 30)]
    monkeypatch.setattr(video, "CACHE_BYTES", 7 * 4 * 320 * 240)
    monkeypatch.setattr(video, "_caches", deque())  # without the videos of earlier tests
    sizes = []
    for frame, pixels in zip(frames(path, 30), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(frame.load()), pixels)
        sizes.append(max(len(item.decoded) for item in video._caches) if video._caches else 0)
    assert max(sizes) <= 7


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I", "F", "I;16", "CMYK", "L", "1"])
def test_strips_change_no_pixel(mode, monkeypatch):
    """Against the whole image at once, as Pillow and numpy convert it."""
    noise = np.random.RandomState(0)
    size = (37, 53)
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        values = (noise.rand(53, 37) * 60_000).astype(kind)
        image = Image.fromarray(values)
        scale = 1.0 if mode == "F" else 1 / 257
        grey = np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
        expected = np.stack([grey] * 3, -1)
    else:
        colours = Image.fromarray(noise.randint(0, 256, (*size[::-1], 4), np.uint8))
        image = colours.convert("RGB").convert(mode) if mode == "P" else colours.convert(mode)
        if mode == "P":
            image.info["transparency"] = 7
        over = Image.new("RGBA", image.size, "white")
        over.alpha_composite(image.convert("RGBA"))
        expected = np.asarray(over.convert("RGB"))
        if mode in ("CMYK", "L", "1"):
            expected = np.asarray(image.convert("RGB"))
    for strip in (37, 37 * 5, 10**6):
        monkeypatch.setattr(image_file, "STRIP", strip)
        np.testing.assert_array_equal(np.asarray(to_upright_rgb(image)), expected)


@pytest.mark.parametrize("orientation", range(10))
def test_turned_images_are_as_pillow_turns_them(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    for kind in ("JPEG", "PNG", "TIFF"):
        stream = io.BytesIO()
        draw_image(0, (16, 24)).save(stream, kind, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(stream.getvalue())))
        np.testing.assert_array_equal(decode(open_media(stream.getvalue())), expected)


def test_the_caller_s_image_is_never_handed_out_to_be_changed():
    image = draw_image(0)
    before = np.asarray(image).copy()
    actual = decode(open_media(image))
    actual.paste((0, 0, 0), (0, 0, 5, 5))
    np.testing.assert_array_equal(image, before)


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
@pytest.mark.parametrize(("bits", "colour"), [(8, 2), (16, 0), (8, 6)])
def test_the_memory_of_a_huge_image_is_bounded(bits, colour, tmp_path):
    """Colours, 16 bits of grey, colours with alpha: 36 million pixels that are a few kB."""
    side = 6000
    (tmp_path / "a.png").write_bytes(png(side, side, bits, colour))
    code = (
        "from performance.fuzz_media import peak_memory\n"
        "from t2v_eval.inputs.media import decode, open_media\n"
        "decode(open_media('small.png'))\n"
        "before = peak_memory()\n"
        "decode(open_media('a.png'))\n"
        "print(peak_memory() - before)\n"
    )
    draw_image(0).save(tmp_path / "small.png")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert side * side < int(done.stdout) <= PIXEL_BYTES * side * side


def test_an_inner_lease_gives_nothing_back(small):
    with small.lease():
        small.reserve(MIB)
        with small.lease():
            small.reserve(MIB)
        assert small.used == 2 * MIB
    assert small.used == 0


def test_what_is_larger_than_the_budget_waits_until_nothing_is_held(small):
    inside = threading.Event()

    def work():
        with small.lease():
            small.reserve(9 * MIB)
            inside.set()

    thread = threading.Thread(target=work)
    with small.lease():
        small.reserve(MIB)
        thread.start()
        while not small._waiting and not inside.is_set():
            pass
        assert small.used == MIB and not inside.is_set()
    thread.join()
    assert inside.is_set() and small.used == 0
