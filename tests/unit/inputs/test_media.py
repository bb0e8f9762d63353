"""Every form an image comes in, and every way it can be wrong."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, draw_image, expected
from PIL import Image, features

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import Media, Video, as_list, check_texts, decode, open_media
from t2v_eval.report.thumbnails import thumbnail
from t2v_eval.utils.regular_file import File


def pixels(source, mode="seen", **options):
    return np.asarray(decode(open_media(source, "image", **options), mode))


def as_bytes(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_every_form_gives_the_same_pixels(tmp_path):
    image = draw_image(0)
    array = np.asarray(image)
    path = tmp_path / "a picture.png"
    image.save(path)
    chw = torch.from_numpy(array.copy()).permute(2, 0, 1)
    forms = [image, path, str(path), path.read_bytes(), bytearray(path.read_bytes())]
    forms += [array, array / 255.0, array.astype(np.uint16) * 257, np.moveaxis(array, -1, 0)]
    forms += [chw, chw / 255.0, (chw / 255).to(torch.float64), chw.permute(1, 2, 0)]
    for form in forms:
        np.testing.assert_array_equal(pixels(form), array)


def test_grey_and_boolean_arrays():
    array = np.arange(10, dtype=np.uint8).reshape(2, 5)
    for form in (array, array[None], array[..., None], torch.from_numpy(array)):
        np.testing.assert_array_equal(pixels(form), np.stack([array] * 3, -1))
    assert set(np.unique(pixels(array > 5))) == {0, 255}


def test_the_key_is_the_content(tmp_path):
    first, two = tmp_path / "1.png", tmp_path / "2.png"
    draw_image(0).save(first)
    two.write_bytes(first.read_bytes())
    assert open_media(first).key == open_media(two).key == open_media(first.read_bytes()).key
    assert open_media(draw_image(0)).key == open_media(draw_image(0)).key
    assert open_media(draw_image(0)).key != open_media(draw_image(1)).key
    flat = np.zeros((2, 8), np.uint8)
    assert open_media(flat).key != open_media(flat.reshape(4, 4)).key


def test_lists_and_batches():
    array = np.zeros((3, 4, 4, 3), np.uint8)
    assert len(as_list(array)) == 3
    assert len(as_list(torch.zeros(2, 3, 4, 4))) == 2
    assert len(as_list(array[0])) == 1
    assert len(as_list(draw_image(i) for i in range(3))) == 3


def test_exif_orientation_is_applied_only_when_seen():
    image = draw_image(0, (12, 10))
    exif = Image.Exif()
    exif[274] = 6  # rotated by 90 degrees clockwise to be seen upright
    content = as_bytes(image, exif=exif)
    np.testing.assert_array_equal(pixels(content), np.rot90(np.asarray(image), -1))
    np.testing.assert_array_equal(pixels(content, "original"), np.asarray(image))


def test_alpha_is_seen_over_white():
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0], rgba[0, :, 3], rgba[1, :, 3] = 200, 0, 255
    actual = pixels(as_bytes(Image.fromarray(rgba)))
    assert (actual[0] == 255).all()
    assert (actual[1] == [200, 0, 0]).all()
    assert pixels(as_bytes(Image.fromarray(rgba)), "original").shape == (2, 3, 4)
    keyed = Image.new("RGB", (2, 2), (9, 9, 9))
    assert (pixels(as_bytes(keyed, transparency=(9, 9, 9))) == 255).all()
    palette = Image.fromarray(np.zeros((2, 2), np.uint8), "P")
    palette.putpalette([10, 20, 30])
    assert (pixels(as_bytes(palette, transparency=0)) == 255).all()
    assert (pixels(as_bytes(palette)) == [10, 20, 30]).all()


def test_sixteen_bits_are_scaled_not_clipped():
    grey = (np.linspace(0, 65535, 16).reshape(4, 4)).astype(np.uint16)
    actual = pixels(as_bytes(Image.fromarray(grey)))
    np.testing.assert_array_equal(actual[..., 0], np.rint(grey / 257))


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF"])
def test_a_dark_file_of_sixteen_bits_stays_dark(tmp_path, kind):
    grey = np.array([[0, 128, 255]], np.uint16)
    content = as_bytes(Image.fromarray(grey), kind)
    opened = Image.open(io.BytesIO(content))
    for form in (content, opened):
        np.testing.assert_array_equal(pixels(form)[..., 0], np.rint(grey / 257))
    # Of what is made in memory nobody says how much white is: small numbers are 8 bits.
    image = Image.fromarray(grey.astype(np.int32))
    np.testing.assert_array_equal(pixels(image)[..., 0], grey)
    assert open_media(image).key != open_media(Image.open(io.BytesIO(as_bytes(image, "PPM")))).key


def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path):
    path = tmp_path / "a.png"
    draw_image(0).save(path)
    opened = open_media(path)
    np.testing.assert_array_equal(decode(opened), draw_image(0))
    before = path.stat()
    draw_image(1).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(MediaError, match="a.png.*changed while it was being scored; run again"):
        decode(opened)
    np.testing.assert_array_equal(pixels(path), draw_image(1))
    path.unlink()
    with pytest.raises(MediaError, match="cannot be decoded.*No such file"):
        decode(opened)


def test_cmyk_and_animated_gif():
    assert pixels(as_bytes(draw_image(0).convert("CMYK"), "JPEG")).shape == (10, 12, 3)
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    gif = as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (pixels(gif) == [255, 0, 0]).all()


def test_files_that_cannot_be_used_are_named(tmp_path):
    whole = as_bytes(draw_image(0, (64, 64)), "JPEG")
    cases = {
        "gone.png": (None, "no such file"),
        "empty.png": (b"", r"empty \(0 bytes\)"),
        "text.png": (b"hello", "not an image"),
        "cut.jpg": (whole[: len(whole) // 2], "cannot be decoded.*truncated"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(MediaError, match=rf"image \(.*{name}\).*{message}"):
            pixels(path)
    with pytest.raises(MediaError, match="is a directory"):
        pixels(tmp_path)
    with pytest.raises(MediaError, match="cannot be read"):
        pixels("\0")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_named(tmp_path):
    whole = as_bytes(draw_image(0, (64, 64)), "AVIF")
    raised = set()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            Image.open(io.BytesIO(damaged)).load()
        except Exception as error:
            raised.add(type(error))
            with pytest.raises(MediaError):
                pixels(bytes(damaged))
            assert thumbnail(bytes(damaged)) is None
    assert RuntimeError in raised, "what Pillow says of some of them"


@pytest.mark.skipif(sys.platform != "linux", reason="others name files by characters")
def test_a_file_whose_name_is_no_text_is_scored_and_kept(tmp_path):
    path = tmp_path / os.fsdecode(b"b\xff.png")
    draw_image(0).save(path)
    scorer = ToyEmbedding(device="cpu", store=tmp_path / "s.db")
    assert scorer([path], ["a cat"]).item() == pytest.approx(expected(draw_image(0), "a cat"))
    assert [row.image[-12:] for row in scorer.store.rows()] == ["b\\udcff.png)"]


def test_a_decompression_bomb_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "bomb.png"
    draw_image(0, (64, 64)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(MediaError, match="bomb.png.*MAX_IMAGE_PIXELS"):
        pixels(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.full((3, 4, 4), float("nan")), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (torch.randn(3, 4, 4) * 9 - 20, "floats in 0-1"),
        (np.full((4, 4, 3), 300), "values from 300 to 300"),
        (np.zeros((5, 5, 7)), "1, 3 or 4 channels"),
        (np.zeros((0, 4, 3)), "none of them 0"),
        (np.array([["a", "b"]]), "are not numbers"),
        (3.5, "float is not an image"),
        (b"", "empty"),
    ],
)
def test_contents_that_cannot_be_used_are_named(source, message):
    with pytest.raises(MediaError, match=message):
        pixels(source)


@pytest.mark.parametrize("broken", ["a \ud800 cat", "a \udcff"])
def test_texts_that_no_encoding_holds_are_refused(broken):
    with pytest.raises(InputError, match=r"texts\[1\].*'\\ud...' at position 2"):
        check_texts(["fine \U0001f600", broken])
    with pytest.raises(InputError, match=r"item 3, texts .*at position 2"):
        check_texts(broken, "item 3, texts")


def test_images_that_differ_in_their_palette_alone_have_keys_of_their_own():
    keys = set()
    for colours in ([0, 0, 0, 255, 0, 0], [0, 0, 0, 0, 0, 255]):
        image = Image.new("P", (4, 4), 1)
        image.putpalette(colours)
        keys.add(open_media(image).key)
    assert len(keys) == 2


def test_arrays_of_sixteen_bits_and_floats_are_rounded():
    values = np.array([[0, 128, 129, 32896, 65535]], np.uint16)
    grey = np.asarray(decode(open_media(values)))[0, :, 0]
    assert grey.tolist() == [0, 0, 1, 128, 255]
    floats = np.array([[0.0, 0.4 / 255, 0.6 / 255, 1.0]], np.float32)
    assert np.asarray(decode(open_media(floats)))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_another_process_gets_the_same_images(tmp_path):
    """Files by their path alone, whatever this process holds of them in memory."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for n, path in enumerate(paths):
        draw_image(n, (200, 100)).save(path)
    whole = open_media(str(paths[0]))
    video = Video.of(paths)
    for media in (whole, open_media(paths[0].read_bytes()), open_media(draw_image(2)), video):
        sent = pickle.dumps(media)
        again = pickle.loads(sent)
        assert again == media
        if media is not video:
            np.testing.assert_array_equal(decode(again), decode(media))
    assert len(pickle.dumps(whole)) < 2000 < paths[0].stat().st_size
    crop = pickle.loads(pickle.dumps(whole.crop(1, 2, 5, 9)))
    np.testing.assert_array_equal(decode(crop), np.asarray(draw_image(0, (200, 100)))[2:9, 1:5])
    broken = pickle.loads(pickle.dumps(Media.broken("c.png", MediaError("c.png: no such file"))))
    with pytest.raises(MediaError, match="c.png: no such file"):
        broken.load()


def test_a_file_that_changed_on_its_way_is_refused(tmp_path):
    draw_image(0).save(tmp_path / "a.png")
    sent = pickle.dumps(open_media(tmp_path / "a.png"))
    draw_image(1).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="changed while it was being scored"):
        decode(pickle.loads(sent))


def test_a_file_keeps_its_state_where_its_device_has_another_number(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    here = File.snapshot(tmp_path / "a.mp4")
    elsewhere = dataclasses.replace(here, device=here.device + 1, inode=here.inode + 1)
    assert pickle.loads(pickle.dumps(elsewhere)) == here
    older = dataclasses.replace(here, mtime_ns=here.mtime_ns - 1)
    assert pickle.loads(pickle.dumps(older)) == older != here
    gone = dataclasses.replace(here, path=tmp_path / "gone.mp4")
    assert pickle.loads(pickle.dumps(gone)) == gone
