"""Files as people have them: odd decoders, pipes, open files, formats that start other programs."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.media.images import pixels, png
from helpers.media.videos import by_hand, encode
from helpers.toy import ToyEmbedding, ToyPair, draw_image
from PIL import Image, features

from t2v_eval.backends.services.credentials import resolve_api_key
from t2v_eval.errors import InputError, MediaError, MissingPackageError, TableError
from t2v_eval.inputs import image_file
from t2v_eval.inputs.media import Video, decode, open_media
from t2v_eval.inputs.tables import read_table
from t2v_eval.inputs.video import Sampling, clip, frames
from t2v_eval.local import weights
from t2v_eval.report.thumbnails import Album, thumbnail
from t2v_eval.utils.regular_file import File

RAISED = [
    ZeroDivisionError("integer division"),
    UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "invalid"),
    MemoryError(),
    struct.error("unpack requires 4 bytes"),
    IndexError("index out of range"),
    KeyError(274),
    OverflowError("too large"),
    RecursionError("too deep"),
    RuntimeError("decoder"),
    AssertionError(),
    AttributeError("no such thing"),
    TypeError("not a thing"),
    NotImplementedError(),
    EOFError(),
    StopIteration(),
    type("Odd", (Exception,), {})("anything"),
]


@pytest.mark.parametrize("raised", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("stage", ["open", "load"])
def test_whatever_a_decoder_raises_is_an_error_of_the_file(raised, stage, tmp_path, monkeypatch):
    path = tmp_path / "odd.png"
    path.write_bytes(png())
    (tmp_path / "good.png").write_bytes(png(1))
    real_open, real_load = Image.open, Image.Image.load
    odd = {id(None)}

    def raising_open(stream, **options):
        image = real_open(stream, **options)
        if stream.getvalue() == png():
            if stage == "open":
                raise raised
            image.load = lambda: (_ for _ in ()).throw(raised) if odd else real_load(image)
        return image

    monkeypatch.setattr(Image, "open", raising_open)
    if isinstance(raised, StopIteration) and stage == "load":
        pytest.skip("a generator turns it into another")
    with pytest.raises(MediaError, match=r"odd.png.*(cannot be decoded|memory)") as caught:
        pixels(path)
    assert str(raised) in str(caught.value) or isinstance(raised, MemoryError)
    assert thumbnail(path) is None
    for kind in (ToyEmbedding, ToyPair):
        scores = kind(on_error="skip")([path, tmp_path / "good.png"], ["a cat", "a dog"])
        assert scores[0].isnan().all() and scores[1].isfinite().all()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_error_of_a_file(raised, monkeypatch):
    def interrupt(*_, **__):
        raise raised

    monkeypatch.setattr(Image, "open", interrupt)
    with pytest.raises(raised):
        pixels(png())


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_an_avif_that_lasts_no_time_is_refused():
    """Pillow divides by a number of the file, here 0."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "AVIF", save_all=True, append_images=frames[1:], duration=100)
    content = bytearray(stream.getvalue())
    for header in (b"mdhd", b"mvhd"):
        start = -1
        while (start := content.find(header, start + 1)) >= 0:
            wide = content[start + 4] == 1
            at = start + (24 if wide else 16)  # of the number of parts in a second
            content[at : at + 4] = bytes(4)
    with pytest.raises(MediaError, match="cannot be decoded"):
        pixels(bytes(content))


@pytest.mark.parametrize("title", ["Café".encode("latin-1"), b"\xff\xfe\xfd\xfc", b"\x80" * 4])
def test_a_video_whose_title_is_no_utf8_is_read(title, tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "abcd"
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for k in range(4):
            array = np.full((24, 32, 3), 60 * k + 40, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    expected = by_hand(path)
    assert path.read_bytes().count(b"abcd") == 1
    path.write_bytes(path.read_bytes().replace(b"abcd", title))
    actual = clip(open_media(path), Sampling(4)).frames
    np.testing.assert_array_equal([np.asarray(frame) for frame in actual], expected)
    assert len(frames(path, 4)) == 4
    assert ToyEmbedding()(frames(path, 4), "a cat").isfinite().all()


@pytest.mark.parametrize("raised", RAISED, ids=lambda e: type(e).__name__)
def test_whatever_pyav_raises_is_an_error_of_the_video(raised, tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4")
    if isinstance(raised, StopIteration):
        pytest.skip("a generator turns it into another")

    def broken(*_, **__):
        raise raised

    monkeypatch.setattr(av, "open", broken)
    for read in (lambda: frames(path, 2), lambda: clip(open_media(path), Sampling(2))):
        with pytest.raises(MediaError, match=r"a\.mp4.*(not a video|memory)"):
            read()


def test_a_playlist_opens_no_other_file(tmp_path):
    """FFmpeg would read the files and addresses that it names."""
    encode(tmp_path / "secret.mp4")
    names = {
        "list.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    }
    for name, content in names.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(MediaError, match="not a video that can be decoded"):
            frames(tmp_path / name, 2)


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
0 0 20 20 rectfill
showpage
%%EOF
"""


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (POSTSCRIPT, "a PostScript file"),
        (
            b"\xc5\xd0\xd3\xc6" + struct.pack("<6IH", 32, 90, 0, 0, 0, 0, 0) + POSTSCRIPT,
            "a PostScript file",
        ),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"\xd7\xcd\xc6\x9a" + bytes(60), "a WMF file"),
        (b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(60), "an EMF file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file"),
        (b"GRIB" + bytes(3) + b"\1" + bytes(60), "a GRIB file"),
        (b"BUFR" + bytes(60), "a BUFR file"),
        (b"SIMPLE  =                    T" + bytes(3000), "a FITS file"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIF image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_formats_that_other_programs_decode_are_named(content, kind, tmp_path, monkeypatch):
    def start(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(MediaError, match=f"is {kind}.*convert it to PNG or JPEG"):
            pixels(source)
    assert thumbnail(path) is None


def test_an_open_postscript_image_is_not_decoded(monkeypatch):
    image = Image.open(io.BytesIO(POSTSCRIPT))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(MediaError, match="is a EPS file.*convert it"):
        open_media(image)


def test_formats_are_those_that_pillow_decodes_itself():
    Image.init()
    others = {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "IPTC", "FITS", "FPX", "MIC"}
    assert set(Image.OPEN) - image_file.FORMATS <= others
    assert not others & image_file.FORMATS


@pytest.mark.parametrize(
    "kind", "AVIF BMP DDS GIF ICO JPEG JPEG2000 PCX PNG PPM QOI SGI TGA TIFF WEBP".split()
)
def test_formats_are_read_as_pillow_reads_them(kind):
    stream = io.BytesIO()
    try:
        draw_image(0, (32, 32)).save(stream, kind)
    except (KeyError, OSError):
        pytest.skip("this Pillow does not write it")
    expected = np.asarray(Image.open(io.BytesIO(stream.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(pixels(stream.getvalue()), expected)


def special(folder: Path) -> dict[str, Path]:
    """What is no regular file, by what messages call it."""
    files = {"a named pipe": folder / "pipe", "a socket": folder / "socket"}
    os.mkfifo(files["a named pipe"])
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    try:
        server.bind("socket")
    finally:
        os.chdir(here)
        server.close()
    return files | {"a device": Path("/dev/zero")}


@pytest.mark.skipif(sys.platform != "linux", reason="others have other devices")
@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a device"])
@pytest.mark.parametrize("ending", [".png", ".mp4", ".csv", ".jsonl", ".json", ".parquet"])
def test_what_is_no_regular_file_is_refused_at_once(kind, ending, tmp_path):
    path = tmp_path / f"odd{ending}"
    path.symlink_to(special(tmp_path)[kind])
    message = f"odd{ending}.*is {kind}.*not a regular file"
    if ending in (".png", ".mp4"):
        with pytest.raises(MediaError, match=message):
            open_media(path)
        if ending == ".mp4":
            with pytest.raises(MediaError, match=message):
                frames(path, 2)
        scores = ToyEmbedding(on_error="skip")([path, draw_image(0)], "a cat")
        assert scores[0].isnan() and scores[1].isfinite()
    else:
        with pytest.raises(TableError, match=message):
            read_table(path)
        with pytest.raises(InputError, match=f"is {kind}"):
            resolve_api_key(None, path)


def test_a_file_that_becomes_a_pipe_is_refused(tmp_path):
    for path in (tmp_path / "a.png", encode(tmp_path / "a.mp4")):
        if path.suffix == ".png":
            path.write_bytes(png())
        opened = open_media(path)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(MediaError, match="named pipe|changed while"):
            clip(opened, Sampling(2)) if isinstance(opened, Video) else decode(opened)


def copied_over(path: Path, content: bytes) -> None:
    """As `cp -p` from a file of the same size and time."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved_over(path: Path, content: bytes) -> None:
    before = path.stat()
    other = path.with_suffix(".other")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("replace", [copied_over, moved_over])
def test_a_file_replaced_under_the_same_size_and_time_is_noticed(replace, tmp_path):
    path = tmp_path / "a.bmp"
    draw_image(0).save(path)
    stream = io.BytesIO()
    draw_image(1).save(stream, "BMP")
    opened, file = open_media(path), File.snapshot(path)
    weights.fingerprint([path])
    watched, before = weights.Watched([path]), weights.fingerprint([path])
    replace(path, stream.getvalue())
    assert File.snapshot(path) != file
    with pytest.raises(MediaError, match="changed while it was being scored; run again"):
        decode(opened)
    with pytest.raises(MediaError, match="changed"):
        file.check("a.bmp")
    assert weights.fingerprint([path]) != before
    with pytest.raises(OSError, match="changed since the model was loaded"):
        watched.fingerprint()
    np.testing.assert_array_equal(pixels(path), draw_image(1))


def odd_exif() -> bytes:
    """An upright JPEG whose EXIF cannot be read."""
    stream = io.BytesIO()
    draw_image(0, (32, 32)).save(
        stream, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12" * 30
    )
    return stream.getvalue()


def test_an_image_that_cannot_be_shown_is_left_out(tmp_path, monkeypatch):
    valid, odd = tmp_path / "good.png", tmp_path / "odd.jpg"
    valid.write_bytes(png())
    odd.write_bytes(odd_exif())
    real = image_file.to_upright_rgb

    def seen(image):
        if image.size == (32, 32):
            raise struct.error("unpack requires a buffer")
        return real(image)

    monkeypatch.setattr("t2v_eval.inputs.media.to_upright_rgb", seen)
    assert ToyEmbedding(image_mode="original")(odd, "a cat").isfinite().all()
    album = Album([odd, valid])
    assert album.index(odd) == -2 and album.index(valid) == 0
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: 1 // 0)
    assert Album([valid]).index(valid) == -2


def test_a_missing_package_is_no_error_of_one_file(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError):
        clip(open_media(path), Sampling(2))
