"""Folders and globs as IMAGE."""

import csv
import json

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.inputs.image_arguments import expand_images
from t2v_eval.cli.main import app
from t2v_eval.cli.prefer import _pairs
from t2v_eval.errors import InputError, MediaError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "photos"
    (path / "deep").mkdir(parents=True)
    for name in ("b.png", "a.jpg", "c.JPG", "deep/d.png"):
        draw_image(0).resize((48, 48)).save(path / name)
    (path / "notes.txt").write_text("x")
    (path / "._a.jpg").write_text("x")
    return path


def names(images, root=None):
    return [image.rpartition("/")[2] for image in expand_images(list(map(str, images)), root)]


def test_a_folder_is_its_images_sorted_and_a_glob_what_matches(folder):
    assert names([folder]) == ["a.jpg", "b.png", "c.JPG"]
    assert names([folder / "*.png", folder / "a.jpg"]) == ["b.png", "a.jpg"]
    assert names([folder / "**" / "*.png"]) == ["b.png", "d.png"]
    assert names(["[ab].*"], folder) == ["a.jpg", "b.png"] and names(["deep"], folder) == ["d.png"]


def test_what_exists_or_is_a_url_stands_for_itself(folder):
    odd = folder / "x[1]?.png"
    draw_image(0).save(odd)
    url = "https://example.org/a*.png?x=1"
    missing = str(folder / "no.png")
    assert expand_images([str(odd), url, missing]) == [str(odd), url, missing]
    assert expand_images(["a.jpg"], folder) == [str(folder / "a.jpg")]
    assert expand_images(["\0.png", "x" * 5000]) == ["\0.png", "x" * 5000]


def test_nothing_that_matches_is_an_error(folder, tmp_path):
    with pytest.raises(MediaError, match=r"gif: no file matches this glob"):
        expand_images([str(folder / "*.gif")])
    (tmp_path / "empty" / "images").mkdir(parents=True)
    with pytest.raises(MediaError, match="empty: the folder holds no images"):
        expand_images([str(tmp_path / "empty")])
    draw_image(0).save(tmp_path / "empty" / "images" / "a.png")
    with pytest.raises(MediaError, match="empty/images holds some"):
        expand_images([str(tmp_path / "empty")])


def test_score_takes_a_folder(folder):
    common = ["score", "-m", "tiny-clip", "-t", "x", "--no-store", str(folder)]
    rows = list(csv.DictReader(CliRunner().invoke(app, common).stdout.splitlines()))
    assert [row["image"].rpartition("/")[2] for row in rows] == ["a.jpg", "b.png", "c.JPG"]
    done = CliRunner().invoke(app, [*common[:-1], str(folder / "*.gif")])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    printed = CliRunner().invoke(app, [*common, "--json"]).stdout
    assert [row["score"] for row in json.loads(printed)] == [float(row["score"]) for row in rows]


def test_prefer_pairs_two_folders(folder):
    def pairs(*arguments):
        paired = _pairs(*map(str, arguments))
        return [[name.rpartition("/")[2] for name in names.values()] for names in paired]

    files = ["a.jpg", "b.png", "c.JPG"]
    assert pairs(folder, folder) == [[name, name] for name in files]
    assert pairs(folder, folder, folder) == [[name] * 3 for name in files]
    one = folder / "deep" / "d.png"
    assert pairs(folder, folder, one) == [[name, name, "d.png"] for name in files]
    assert pairs(folder, folder, folder / "deep") == pairs(folder, folder, one)
    with pytest.raises(InputError, match="stands for 3 images and .* for 1"):
        pairs(folder, folder / "a.jpg")
    with pytest.raises(InputError, match=r"--source .*\*.png stands for 2 images and .* for 3"):
        pairs(folder, folder, folder / "**" / "*.png")


def test_caption_takes_a_glob(folder, tmp_path):
    captions, out = tmp_path / "c.json", tmp_path / "out.json"
    captions.write_text(json.dumps({"a": "a red square", "b": "a blue circle"}))
    common = ["caption", str(captions), "-m", "tiny-clip", "--no-store", "--out", str(out)]
    done = CliRunner().invoke(app, [*common, str(folder / "[ab].*")])
    assert done.exit_code == 0, done.output
    assert set(json.loads(out.read_text())) == {"a", "b"}
    done = CliRunner().invoke(app, [*common, str(folder / "*.gif")])
    assert done.exit_code == 2 and "holds no images" in done.output
