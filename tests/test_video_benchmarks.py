"""Benchmarks of videos and of 3D objects: frames, grids and figures counted by hand."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from published_layouts import genai_bench_video, stanfordt23d, t2vscore, write_json
from scipy import stats

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def opened(name, root):
    benchmark = benchmarks.create(name, root=root)
    return benchmark, benchmark.items()


def test_genai_bench_video(tmp_path):
    genai_bench_video(tmp_path)
    _, items = opened("genai-bench-video-800", tmp_path)
    assert [item.tags for item in items] == [("basic",), ("counting", "advanced")]
    assert items[0].labels["human"] == [1, 2, 3, 4] and items[1].labels["human"] == [1, 2, 3]
    # Two frames, 36 of 38, two, two.
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 36 + 2]
    assert items[0].images[1].endswith("frames/Floor33/video_00000_frame_0001.jpg")
    assert items[0].images[2 + 35].endswith("frames/Gen2/video_00000_frame_0035.jpg")
    assert {len(frames) for item in items for frames in item.labels["frames"]} == {36}


def test_the_last_frame_fills_up_a_short_video(tmp_path):
    genai_bench_video(tmp_path)
    benchmark, items = opened("genai-bench-video-800", tmp_path)
    scores = [np.zeros((len(item.images), 1), np.float32) for item in items]
    # Videos of two frames score (first + 35 x last) / 36, the long one the mean of its frames.
    scores[0][[0, 1], 0] = 36, 0  # 1
    scores[0][2:38, 0] = np.arange(36)  # 17.5
    scores[0][[38, 39], 0] = 0, 36  # 35
    scores[0][[40, 41], 0] = 36, 36  # 36
    scores[1][[0, 1], 0] = 72, 36  # 37
    scores[1][2:38, 0] = 3  # 3
    scores[1][[38, 39], 0] = 0, 0  # 0
    wanted = stats.kendalltau([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    found = benchmark.metrics(items, scores)
    assert found["tau_b"] == pytest.approx(wanted)
    wanted = stats.pearsonr([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    assert found["pearson"] == pytest.approx(wanted)
    scores[1][5, 0] = np.nan
    wanted = stats.kendalltau([1, 17.5, 35, 36, 37, 0], [1, 2, 3, 4, 1, 3]).statistic
    assert benchmark.metrics(items, scores)["tau_b"] == pytest.approx(wanted)


def test_missing_frames_are_named(tmp_path):
    genai_bench_video(tmp_path)
    for path in (tmp_path / "frames" / "Pika_v1").glob("video_00001*"):
        path.unlink()
    with pytest.raises(BenchmarkDataError, match="'00001': there is no frame .*ffmpeg") as caught:
        opened("genai-bench-video-800", tmp_path)
    assert "Pika_v1" in str(caught.value)


def test_t2vscore(tmp_path):
    t2vscore(tmp_path)
    _, items = opened("t2vscore-alignment", tmp_path)
    assert items[0].texts == ["2 Dog and a whale, ocean adventure"]
    # In the authors' order of generators: floor33, gen2, pika, modelscope, zeroscope.
    assert items[0].labels["human"] == [1.3, 2.2, 1.2, 2.5, 1.9]
    assert len(items[0].images) == 15
    with pytest.raises(InputError, match="'alignment' or 'quality'"):
        benchmarks.create("t2vscore-alignment", target="beauty")


def test_stanfordt23d_has_all_six_generators(tmp_path):
    stanfordt23d(tmp_path)
    _, items = opened("stanfordt23d", tmp_path)
    assert items[0].texts == ["A torn hat"]
    assert items[0].labels["human"] == [2, 5, 2, 3, pytest.approx(7 / 3), pytest.approx(10 / 3)]
    _, some = opened("stanfordt23d-300", tmp_path)
    assert [len(item.labels["human"]) for item in some] == [5, 5]
    assert some[0].labels["human"] == items[0].labels["human"][:5]
    grid = np.asarray(Image.open(io.BytesIO(items[0].images[0]))).astype(int)
    views = [
        np.asarray(Image.open(tmp_path / f"dreamfusion/0/0/rgb_{view}.jpg").convert("RGB"))
        for view in (2, 15, 28, 41, 54, 67, 80, 93, 106)
    ]
    height, width = views[0].shape[:2]
    assert grid.shape == (3 * height, 3 * width, 3)
    for k in range(9):
        top, left = height * (k // 3), width * (k % 3)
        cell = grid[top : top + height, left : left + width]
        apart = [np.abs(cell - view).mean() for view in views]
        assert int(np.argmin(apart)) == k, "row by row"


def test_stanfordt23d_missing_views_are_named(tmp_path):
    stanfordt23d(tmp_path)
    (tmp_path / "shap-e/1/0/rgb_106.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="a view cannot be read: .*rgb_106.jpg"):
        opened("stanfordt23d", tmp_path)


@pytest.mark.parametrize(
    ("name", "write", "file", "message"),
    [
        ("genai-bench-video-800", genai_bench_video, "genai_video", "a generator 'new'; known are"),
        ("t2vscore-alignment", t2vscore, "t2vscore_alignment_score", "has the generators .*new"),
        ("stanfordt23d", stanfordt23d, "stanfordt23d", "has the generators .*new, not dreamf"),
    ],
)
def test_other_generators_are_named(tmp_path, name, write, file, message):
    write(tmp_path)
    path = tmp_path / f"{file}.json"
    content = json.loads(path.read_text())
    next(iter(content.values()))["models"]["new"] = [1]
    write_json(path, content)
    with pytest.raises(BenchmarkDataError, match=message):
        opened(name, tmp_path)
