"""Only regular files are read, and a file that was replaced is noticed."""

from __future__ import annotations

import os
import shutil

import pytest

from t2v_eval.errors import MediaError
from t2v_eval.utils import regular_file
from t2v_eval.utils.regular_file import File, digest, digest_of, open_regular
from t2v_eval.utils.text_file import read_text


def test_a_pipe_that_replaces_the_file_after_it_was_looked_at_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    whole = os.open

    def replaced(name, flags):
        path.unlink()
        os.mkfifo(path)
        return whole(name, flags)

    monkeypatch.setattr(regular_file.os, "open", replaced)
    with pytest.raises(OSError, match="named pipe"):
        open_regular(path)


def written(path):
    path.write_bytes(b"others!")


def copied(path):
    other = path.with_suffix(".other")
    other.write_bytes(b"others!")
    shutil.copystat(path, other)
    shutil.copyfile(other, path)
    shutil.copystat(other, path)


def moved(path):
    other = path.with_suffix(".other")
    other.write_bytes(b"content")
    shutil.copystat(path, other)
    other.replace(path)


def deleted(path):
    path.unlink()


@pytest.mark.parametrize("change", [written, copied, moved, deleted])
def test_a_file_that_was_changed_is_noticed(tmp_path, change):
    path = tmp_path / "a.png"
    path.write_bytes(b"content")
    file = File.snapshot(path)
    file.check("images[0]")
    change(path)
    with pytest.raises(MediaError, match=r"images\[0\]: changed while it was being scored"):
        file.check("images[0]")


def test_a_large_file_has_the_digest_of_its_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(regular_file, "BLOCK", 7)
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(100)))
    with open_regular(path) as stream:
        found = digest_of(stream)
    assert found == digest(bytes(range(100))) != digest(bytes(range(99)))


def test_lines_end_alike(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ä\r\nb\rc\n".encode())
    assert read_text(path) == "ä\nb\nc\n"
