"""Folders of captioned images, in and out in the JSON of the CLIPScore repository."""

from __future__ import annotations

import json
import math
import os
import shutil

import pytest
from helpers.models.clip_goldens import FOLDER, arch, open_clip_file
from helpers.toy import ToyEmbedding, draw_image

import t2v_eval
from t2v_eval.errors import InputError, OutputError, T2VWarning, TableError
from t2v_eval.evaluation.captioning.captions import Captions, score_captions

pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")
CANDIDATES, REFERENCES = FOLDER / "cli_candidates.json", FOLDER / "cli_references.json"


def load(name, folder):
    return t2v_eval.load(
        name,
        checkpoint=open_clip_file(folder),
        arch=arch("tiny-ViT-H-quickgelu"),
        device="cpu",
        image_mode="original",
    )


@pytest.mark.parametrize("name, references", [("clipscore", None), ("refclipscore", REFERENCES)])
def test_equals_the_original(name, references, tmp_path):
    actual = score_captions(load(name, tmp_path), CANDIDATES, FOLDER / "images", references)
    actual.write(tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text("utf-8"))
    expected = json.loads(
        (FOLDER / f"cli_expected_{'ref' if references else 'noref'}.json").read_text()
    )
    assert set(content) == set(expected)
    for image, row in expected.items():
        assert list(content[image]) == list(row)
        assert content[image] == pytest.approx(row, abs=1e-5), image
    means = {key: round(value, 4) for key, value in actual.means().items()}
    assert means == ({"CLIPScore": 0.1197} | ({"RefCLIPScore": 0.1564} if references else {}))
    assert list(content) == sorted(content)


@pytest.fixture
def folder(tmp_path):
    """Two images with endings in capitals, a file that is none, and their captions."""
    (tmp_path / "images").mkdir()
    draw_image(0).save(tmp_path / "images" / "one.PNG")
    draw_image(1).save(tmp_path / "images" / "two.Jpeg")
    (tmp_path / "images" / "notes.txt").write_text("not a picture")
    write(tmp_path, "candidates", {"one": "a cat", "two": "a dog"})
    return tmp_path


def write(folder, name, content):
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def score(folder, scorer=None, **more):
    return score_captions(
        scorer or ToyEmbedding(), folder / "candidates.json", folder / "images", **more
    )


def test_any_scorer_and_any_case_of_the_ending(folder):
    scorer = ToyEmbedding()
    result = score(folder, scorer)
    assert set(result.scores) == {"one", "two"}
    assert list(result.scores["one"]) == ["ToyEmbedding"]
    assert result.scores["one"]["ToyEmbedding"] == scorer(draw_image(0), "a cat").item()
    assert result.counts.cells == 2


def test_images_without_a_caption_are_named(folder):
    write(folder, "candidates", {"one": "a cat", "three": "a dog"})
    with pytest.raises(TableError, match=r"1 images have no caption in .*: 'two'"):
        score(folder)


def test_captions_without_an_image_are_left_out_and_named(folder):
    write(folder, "candidates", {"one": "a cat", "two": "a dog", "three": "a bird"})
    with pytest.warns(T2VWarning, match=r"1 of 3 captions .* have no image .*'three'"):
        result = score(folder)
    assert result.unused == ["three"] and set(result.scores) == {"one", "two"}


def test_references_are_a_list_or_one_text_and_none_may_lack(tmp_path, folder):
    scorer = load("refclipscore", tmp_path)
    references = write(folder, "references", {"one": "a cat", "two": ["a dog", "dogs"], "six": "x"})
    result = score(folder, scorer, references=references)
    assert all(list(row) == ["CLIPScore", "RefCLIPScore"] for row in result.scores.values())
    references = write(folder, "references", {"one": "a cat"})
    with pytest.raises(TableError, match=r"no references in .*: 'two'"):
        score(folder, scorer, references=references)
    with pytest.raises(InputError, match="'refclipscore' uses references"):
        score(folder, scorer)
    with pytest.raises(InputError, match="'ToyEmbedding' does not use references"):
        score(folder, references=references)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not JSON"),
        (["a cat"], "holds list"),
        ({"one": 3, "two": "a dog"}, "'one' has '3'"),
        ({"one": ["a cat"], "two": "a dog"}, "'one' has .*expected a caption"),
    ],
)
def test_malformed_files_are_named(content, message, folder):
    write(folder, "candidates", content)
    with pytest.raises(TableError, match=rf"candidates\.json.*{message}"):
        score(folder)


def test_folders_that_hold_no_images_or_two_of_a_name(folder):
    with pytest.raises(TableError, match="not a folder of images"):
        score_captions(ToyEmbedding(), folder / "candidates.json", folder / "nowhere")
    with pytest.raises(TableError, match="no such file"):
        score_captions(ToyEmbedding(), folder / "nothing.json", folder / "images")
    shutil.copy(folder / "images" / "one.PNG", folder / "images" / "one.jpg")
    with pytest.raises(TableError, match=r"one\.PNG and one\.jpg are both the image 'one'"):
        score(folder)
    (folder / "empty").mkdir()
    with pytest.raises(TableError, match="holds no images"):
        score_captions(ToyEmbedding(), folder / "candidates.json", folder / "empty")


def test_a_broken_image_is_null_and_not_in_the_mean(folder):
    (folder / "images" / "two.Jpeg").write_bytes(b"not a picture")
    result = score(folder, ToyEmbedding(on_error="skip"))
    assert result.scores["two"] == {"ToyEmbedding": None}
    assert "two.Jpeg" in result.failures["two"]
    assert result.means()["ToyEmbedding"] == result.scores["one"]["ToyEmbedding"]
    result.write(folder / "out.json")
    assert json.loads((folder / "out.json").read_text())["two"] == {"ToyEmbedding": None}
    (folder / "images" / "one.PNG").write_bytes(b"not a picture")
    assert math.isnan(score(folder, ToyEmbedding(on_error="skip")).means()["ToyEmbedding"])


def test_a_result_that_cannot_be_written_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where its rows are saved
    with pytest.raises(OutputError, match="nowhere"):
        score(folder).write(folder / "nowhere" / "out.json")


def test_only_regular_files_are_images(tmp_path):
    """A folder, a pipe, a broken link or a hidden file called like an image is none."""
    draw_image(0).save(tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "._a.jpg").write_bytes(b"of macOS")
    (tmp_path / "link.JPG").symlink_to(tmp_path / "a.png")
    (tmp_path / "c.json").write_text('{"a": "a cat", "link": "a dog"}')
    read = Captions.read(tmp_path / "c.json", tmp_path)
    assert read.files == {"a": str(tmp_path / "a.png"), "link": str(tmp_path / "link.JPG")}
    with pytest.raises(TableError, match="is not a folder of images: No such file"):
        Captions.read(tmp_path / "c.json", tmp_path / "nowhere")


def test_an_image_id_may_be_written_in_either_form_of_unicode(tmp_path):
    """macOS writes é as two characters, which look the same."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    draw_image(0).save(tmp_path / f"{decomposed}.png")
    (tmp_path / "c.json").write_text(json.dumps({composed: "a cat"}))
    assert Captions.read(tmp_path / "c.json", tmp_path).captions == {decomposed: "a cat"}
    draw_image(1).save(tmp_path / f"{composed}.png")
    (tmp_path / "c.json").write_text(json.dumps({composed: "a cat", decomposed: "a dog"}))
    read = Captions.read(tmp_path / "c.json", tmp_path)
    assert read.captions == {composed: "a cat", decomposed: "a dog"}


def test_a_key_that_occurs_twice_is_an_error(tmp_path):
    """Only the last of its captions would be scored."""
    draw_image(0).save(tmp_path / "a.png")
    (tmp_path / "c.json").write_text('{"a": "a cat", "a": "a dog"}')
    with pytest.raises(TableError, match="c.json: the key 'a' occurs twice"):
        Captions.read(tmp_path / "c.json", tmp_path)
