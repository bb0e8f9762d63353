"""Videos on the command line: some models read them, a scorer of images says what else to do."""

from __future__ import annotations

import csv
import io
import json

import pytest
from helpers.benchmarks.examples import EXAMPLES
from helpers.media.videos import by_hand, encode
from helpers.models.tiny_vlm import TINY
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.inputs.media import Video

REMEDY = "is a video, and this scorer looks at one image at a time: score frames of it"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    TINY["qwen2_5_vl"](folder)
    return f"hf-vlm:{folder}"


@pytest.fixture
def videos(tmp_path):
    """Two videos, one that is broken, and what is said of them."""
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "one.mp4", 12), encode(folder / "two.MP4", 8, seed=1)
    (folder / "bad.mp4").write_bytes((folder / "one.mp4").read_bytes()[:300])
    rows = ["video,text", "one.mp4,a cat", "two.MP4,a dog", "bad.mp4,a cat"]
    (folder / "table.csv").write_text("\n".join(rows))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def few(model):
    return "--model", model, "--device", "cpu", "--no-store", "--option", "frames=4"


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_score_reads_videos(model, videos):
    frames = [Image.fromarray(frame) for frame in by_hand(videos / "one.mp4")]
    judge = t2v_eval.load(model, device="cpu", frames=4)
    expected = judge([Video.of(frames, 8.0)], ["a dog runs", "a cat"])
    both = "--text", "a dog runs", "--text", "a cat"
    actual = run("score", videos / "one.mp4", *both, *few(model))
    assert actual.exit_code == 0, actual.output
    scores = [float(row["score"]) for row in table(actual.stdout)]
    assert scores == pytest.approx(expected[0].tolist(), rel=1e-5)


def test_a_table_of_videos_and_one_that_is_broken(model, videos):
    arguments = "score", "--pairs", videos / "table.csv", "--image-column", "video", *few(model)
    result = run(*arguments, "--on-error", "skip")
    assert result.exit_code == 0, result.output
    rows = table(result.stdout)
    assert [bool(row["score"]) for row in rows] == [True, True, False]
    assert "bad.mp4): not a video that can be decoded" in rows[2]["error"]
    result = run(*arguments)
    assert result.exit_code == 2 and "bad.mp4): not a video that can be decoded" in result.stderr
    assert not result.stdout


def test_a_scorer_of_images_says_what_to_do(videos):
    arguments = "score", videos / "one.mp4", "-t", "a dog", "-m", "tiny-clip", "--no-store"
    result = run(*arguments)
    assert result.exit_code == 2 and REMEDY in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = run(*arguments, "--on-error", "skip")
    assert result.exit_code == 1, "every score failed"
    assert REMEDY in table(result.stdout)[0]["error"]


def test_captions_of_videos(model, videos, tmp_path):
    captions = {"one": "a cat", "two": "a dog", "bad": "a cat"}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    out = tmp_path / "out.json"
    arguments = "caption", tmp_path / "captions.json", videos, "--on-error", "skip", "--out", out
    actual = run(*arguments, *few(model))
    assert actual.exit_code == 0, actual.output
    content = {name: row[model] for name, row in json.loads(out.read_text()).items()}
    judge = t2v_eval.load(model, device="cpu", frames=4)
    expected = judge.score_pairs([videos / "one.mp4", videos / "two.MP4"], ["a cat", "a dog"])
    assert [content["one"], content["two"]] == pytest.approx(expected.tolist(), rel=1e-5)
    assert content["bad"] is None and "not a video that can be decoded" in actual.stderr
    encode(videos / "bad.mp4", 8)
    Image.new("RGB", (20, 20)).save(videos / "still.png")
    (tmp_path / "captions.json").write_text(json.dumps(captions | {"still": "black"}))
    actual = run(*arguments, "--model", "tiny-clip", "--no-store")
    assert actual.exit_code == 0, actual.output
    content = {name: row["tiny-clip"] for name, row in json.loads(out.read_text()).items()}
    assert content.pop("still") is not None and set(content.values()) == {None}
    assert REMEDY in actual.stderr


def test_a_benchmark_of_videos_that_are_read_whole_has_a_page(model, tmp_path):
    EXAMPLES["camerabench-retrieval"].write(tmp_path / "data")
    arguments = "eval", "-b", "camerabench-retrieval", "--root", tmp_path / "data", *few(model)
    result = run(*arguments, "--benchmark-option", "whole=true", "--out", tmp_path / "report")
    assert result.exit_code == 0, result.output
    rows = table((tmp_path / "report/scores.csv").read_text())
    assert len(rows) == 10 * 4 and all(row["image_name"].endswith(".mp4") for row in rows)
    page = (tmp_path / "report/report.html").read_text()
    assert "here each video is read whole instead" in page
    assert "could not be read when it was written" not in page
