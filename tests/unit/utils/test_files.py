"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from t2v_eval.errors import OutputError
from t2v_eval.utils.files import check_file, check_folder, replacing, write_text


def test_until_the_block_ends_the_file_is_as_it_was(tmp_path):
    file = tmp_path / "scores.txt"
    file.write_text("old")
    with replacing(file) as stream:
        stream.write("new")
        stream.flush()
        assert file.read_text() == "old"
        assert file.stat().st_ino != os.fstat(stream.fileno()).st_ino
    assert file.read_text() == "new"


def test_readers_that_have_it_open_keep_the_old_content(tmp_path):
    file = tmp_path / "scores.txt"
    file.write_text("old")
    with file.open() as reader:
        write_text(file, "new")
        assert reader.read() == "old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    file = tmp_path / "scores.txt"
    file.write_text("old")
    with pytest.raises(error), replacing(file) as stream:
        stream.write("half")
        raise error
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_its_mode_is_that_of_other_new_files(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "scores.txt", "0.5")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "scores.txt").stat().st_mode) == 0o666 & ~mask


def test_half_characters_of_file_names_can_be_written(tmp_path):
    write_text(tmp_path / "names.txt", "a\udce9\n")
    assert (tmp_path / "names.txt").read_text() == "a\\udce9\n"


def test_what_cannot_be_written_is_refused_before(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="is a folder; `file=` names a file"):
        check_file(tmp_path)
    with pytest.raises(OutputError, match="is no regular file"):
        check_file("/dev/null")
    assert check_file(tmp_path / "new" / "scores.csv").parent.is_dir()
