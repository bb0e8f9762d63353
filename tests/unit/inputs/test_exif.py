"""EXIF that cannot be read: the pixels are scored as they are stored, whatever the format."""

import io
import struct

import numpy as np
import pytest
from helpers.toy import draw_image
from PIL import Image, features

from t2v_eval.backends.services.image_encoding import image_file
from t2v_eval.inputs.image_file import orientation_of
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.report.thumbnails import thumbnail
from t2v_eval.scoring.cautions import size_of

START = b"Exif\0\0II*\0\x08\0\0\0"


def entry(kind: int, count: int, value: int, tag: int = 274) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


BROKEN = {
    "no TIFF header": b"Exif\0\0garbage here",
    "no prefix": b"nonsense",
    "empty": b"Exif\0\0",
    "ends in the header": START[:10],
    "an offset beyond the end": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "cut within the entries": START + b"\x05\0" + b"\x12" * 10,
    "an unknown type": START + b"\x01\0" + entry(99, 1, 6) + bytes(4),
    "text": START + b"\x01\0" + entry(2, 4, 0x636261) + bytes(4),
    "99": START + b"\x01\0" + entry(3, 1, 99) + bytes(4),
    "0": START + b"\x01\0" + entry(3, 1, 0) + bytes(4),
    "a fraction beyond the end": START + b"\x01\0" + entry(5, 1, 0x7FFFFFFF) + bytes(4),
    "a directory that holds itself": START + b"\x01\0" + entry(4, 1, 8, 0x8769) + b"\x08\0\0\0",
}
FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"]
SIZE = (24, 16)


def written(kind: str, exif: bytes) -> bytes:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stream = io.BytesIO()
    try:
        draw_image(0, SIZE).save(stream, kind, exif=exif)
    except Exception as error:
        pytest.skip(f"Pillow does not write it: {error!r}")
    return stream.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", BROKEN)
def test_pixels_are_scored_as_stored(kind, case):
    content = written(kind, BROKEN[case])
    stored = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert stored.shape == (16, 24, 3)
    for source in (content, Image.open(io.BytesIO(content))):
        media = open_media(source)
        np.testing.assert_array_equal(decode(media), stored)
        assert decode(media, "original").size == size_of(media) == SIZE
        assert image_file(media, decode(media), "seen", None)[0]
    assert thumbnail(content) is not None


@pytest.mark.parametrize("kind", FORMATS)
def test_an_orientation_that_can_be_read_is_applied_beside_what_cannot(kind):
    entries = entry(3, 1, 6) + entry(5, 1, 0x7FFFFFFF, 282)
    content = written(kind, START + b"\x02\0" + entries + bytes(4))
    media = open_media(content)
    assert decode(media).size == (16, 24)
    upright = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    if kind != "TIFF":  # which Pillow turns itself
        upright = np.rot90(upright, -1)
    np.testing.assert_array_equal(decode(media), upright)


def test_whatever_the_reader_raises_is_no_orientation(monkeypatch):
    for error in (ZeroDivisionError, MemoryError, RecursionError, struct.error):

        def fail(self, error=error):
            raise error("odd")

        monkeypatch.setattr(Image.Image, "getexif", fail)
        assert orientation_of(draw_image(0)) is None
