"""Images and videos that are open already, or lie in a table."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from helpers.media.images import pixels, png
from helpers.media.videos import encode
from helpers.toy import ToyEmbedding, draw_image, expected
from pyarrow import parquet

from t2v_eval.cli.inputs.table_input import RowColumns, read_blocks
from t2v_eval.errors import MediaError
from t2v_eval.inputs import open_file
from t2v_eval.inputs.media import Video, as_list, decode, name_of, open_media
from t2v_eval.inputs.video import Sampling, clip
from t2v_eval.report.thumbnails import Album


class Upload:
    """As web frameworks have it: asynchronous, around an ordinary file."""

    def __init__(self, content, filename="upload.png"):
        self.file, self.filename = io.BytesIO(content), filename

    async def read(self, size=-1):
        return self.file.read(size)


class Reader:
    def __init__(self, content):
        self.content = content

    def read(self):
        return self.content


def open_files(folder: Path):
    """Open files of one image, and what messages call them."""
    content, path = png(), folder / "a.png"
    path.write_bytes(content)
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115
    spooled.write(content)
    buffer = io.BytesIO()
    buffer.write(content)  # its position is the end
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("inside/b.png", content)
    archive = zipfile.ZipFile(folder / "a.zip")
    with gzip.open(folder / "c.png.gz", "wb") as stream:
        stream.write(content)
    pipe, end = os.pipe()
    os.write(end, content)
    os.close(end)
    return [
        (io.BytesIO(content), f"{len(content)} bytes"),
        (buffer, f"{len(content)} bytes"),
        (path.open("rb"), "a.png"),
        (path.open("rb", buffering=0), "a.png"),
        (spooled, f"{len(content)} bytes"),
        (archive.open("inside/b.png"), "inside/b.png"),
        (zipfile.Path(archive, "inside/b.png"), "b.png"),
        (gzip.open(folder / "c.png.gz"), "c.png.gz"),
        (Upload(content), "upload.png"),
        (Reader(content), f"{len(content)} bytes"),
        (os.fdopen(pipe, "rb"), f"{len(content)} bytes"),
        (memoryview(content), f"{len(content)} bytes"),
    ]


def test_open_files_are_read_like_bytes(tmp_path):
    for source, called in open_files(tmp_path):
        assert as_list(source) == [source]
        opened = open_media(source, "images[0]")
        assert opened.key == open_media(png()).key
        assert called in opened.name, called
        np.testing.assert_array_equal(decode(opened), draw_image(0))
    stream = io.BytesIO(png())
    stream.seek(3)
    scorer = ToyEmbedding()
    assert scorer(stream, "a cat").item() == pytest.approx(expected(draw_image(0), "a cat"))
    assert scorer([stream, stream, draw_image(0)], "a cat").shape == (3, 1)
    assert stream.tell() == 3, "where it was"
    assert Album([stream]).index(stream) == 0
    assert name_of((tmp_path / "a.png").open("rb")).endswith("a.png") and name_of(stream) == ""


def test_open_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    closed = path.open("rb")
    closed.close()

    class Broken:
        name = "broken.png"

        def read(self, size=-1):
            raise ZeroDivisionError("in read")

    class OnlyAsync:
        async def read(self):
            return png()

    cases = [
        (path.open(encoding="latin-1"), r"a.png.*open for reading text; open it with mode 'rb'"),
        (io.StringIO("text"), "open for reading text"),
        (closed, "a.png.*closed file"),
        (path.open("ab"), "a.png.*cannot be read"),
        (Broken(), "broken.png.*in read"),
        (OnlyAsync(), "await"),
        (io.BytesIO(), "empty"),
        (Path("/dev/zero").open("rb"), "is a device"),  # noqa: SIM115
    ]
    for source, message in cases:
        with pytest.raises(MediaError, match=message):
            pixels(source)
        assert ToyEmbedding(on_error="skip")([source, draw_image(1)], "a cat").isnan().sum() == 1
    monkeypatch.setattr(open_file, "MAX_BYTES", 10)
    with pytest.raises(MediaError, match="open file of more than"):
        pixels(io.BytesIO(png()))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
def test_bytes_of_a_video_are_a_video(name, tmp_path):
    path = encode(tmp_path / name)
    content = path.read_bytes()
    for source in (content, io.BytesIO(content), path.open("rb"), Upload(content, name)):
        opened = open_media(source)
        assert isinstance(opened, Video) and opened.key == open_media(path).key
        assert len(clip(opened, Sampling(4)).frames) == 4
        with pytest.raises(MediaError, match="is a video, and this scorer looks at one image"):
            decode(opened)
    path.rename(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"a.png.*is a video \(.*\)"):
        pixels(tmp_path / "a.png")


def test_an_image_in_a_table_is_called_by_its_path_or_row(tmp_path):
    path = tmp_path / "t.parquet"
    rows = [{"bytes": png(0), "path": "far/a.png"}, {"bytes": png(1), "path": None}]
    for images in (rows, [png(0), png(1)]):
        table = [{"image": image, "text": "x"} for image in images]
        parquet.write_table(pyarrow.Table.from_pylist(table), path)
        blocks, *_ = read_blocks(None, None, path, RowColumns("image", "text"), None)
        first = "far/a.png" if images is rows else f"row 1 of {path}"
        assert [block.images[0].name for block in blocks] == [first, f"row 2 of {path}"]
        scores = ToyEmbedding().run(blocks)
        wanted = [expected(draw_image(n), "x") for n in range(2)]
        assert [score.item() for score in scores] == pytest.approx(wanted)
