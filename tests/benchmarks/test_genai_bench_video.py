"""GenAI-Bench's videos, as frames that are files and as videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, json_with, rating_faults
from helpers.benchmarks.expected_metrics import agreement, models_of
from helpers.benchmarks.small_files import draw_frames, write_clip, write_json
from helpers.media.videos import by_hand
from helpers.toy import ToyEmbedding
from PIL import Image
from scipy import stats

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Video, decode, open_media
from t2v_eval.inputs.video import Sampling
from t2v_eval.inputs.video import clip as read_clip
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import Report

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

GENERATORS = ("Floor33", "Gen2", "Pika_v1", "Modelscope")


def write_frames(root: Path, write_video: Callable[..., None] = draw_frames) -> None:
    content = {
        name: {"prompt": f"prompt {name}", "models": {m: [k + 1] * 3 for k, m in enumerate(models)}}
        for name, models in (("00000", GENERATORS), ("00001", GENERATORS[:3]))
    }
    write_json(root / "genai_video.json", content)
    write_json(root / "genai_skills.json", {"counting": [1], "basic": [0], "advanced": [1]})
    for name, row in content.items():
        for k, model in enumerate(row["models"]):
            write_video(root, model, name, 2 if model != "Gen2" else 38, 40 * k)


def write_videos(root: Path) -> None:
    write_frames(root, write_clip)


def example(write: Callable[[Path], None]) -> Example:
    return Example(
        write=write,
        items=2,
        images=42 + 40,  # the videos of two frames, those of 38: 36
        texts=2,
        tags={"counting": 1, "basic": 1, "advanced": 1},
        metric=agreement(models_of("genai_video.json", *GENERATORS)),
        **rating_faults("genai_video.json"),
    )


EXAMPLES = {
    "genai-bench-video-527": example(write_frames),
    "genai-bench-video-800": example(write_videos),
}


def test_genai_bench_video(tmp_path):
    write_frames(tmp_path)
    items = benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    assert [item.tags for item in items] == [("basic",), ("counting", "advanced")]
    assert items[0].labels["human"] == [1, 2, 3, 4] and items[1].labels["human"] == [1, 2, 3]
    # Two frames, 36 of 38, two, two.
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 36 + 2]
    assert items[0].images[1].endswith("frames/Floor33/video_00000_frame_0001.jpg")
    assert items[0].images[2 + 35].endswith("frames/Gen2/video_00000_frame_0035.jpg")
    assert {len(group) for item in items for group in item.labels["frames"]} == {36}


def test_the_last_frame_fills_up_a_short_video(tmp_path):
    write_frames(tmp_path)
    benchmark = benchmarks.create("genai-bench-video-800", root=tmp_path)
    items = benchmark.items()
    scores = [np.zeros((len(item.images), 1), np.float32) for item in items]
    # Videos of two frames score (first + 35 x last) / 36, the long one the mean of its frames.
    scores[0][[0, 1], 0] = 36, 0  # 1
    scores[0][2:38, 0] = np.arange(36)  # 17.5
    scores[0][[38, 39], 0] = 0, 36  # 35
    scores[0][[40, 41], 0] = 36, 36  # 36
    scores[1][[0, 1], 0] = 72, 36  # 37
    scores[1][2:38, 0] = 3  # 3
    scores[1][[38, 39], 0] = 0, 0  # 0
    reference = stats.kendalltau([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    actual = benchmark.metrics(items, scores)
    assert actual["tau_b"] == pytest.approx(reference)
    reference = stats.pearsonr([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    assert actual["pearson"] == pytest.approx(reference)
    scores[1][5, 0] = np.nan
    reference = stats.kendalltau([1, 17.5, 35, 36, 37, 0], [1, 2, 3, 4, 1, 3]).statistic
    assert benchmark.metrics(items, scores)["tau_b"] == pytest.approx(reference)


def test_frames_come_from_the_videos(tmp_path):
    write_videos(tmp_path)
    items = benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 36 + 2]
    assert {len(group) for item in items for group in item.labels["frames"]} == {36}
    whole = by_hand(tmp_path / "Gen2/00001.mp4")
    assert len(whole) == 38
    for k, n in ((2, 0), (2 + 35, 35)):
        # As the authors keep a frame: a JPEG file of Pillow's default quality.
        Image.fromarray(whole[n]).save(tmp_path / "frame.jpg")
        actual = decode(open_media(items[1].images[k]))
        np.testing.assert_array_equal(actual, Image.open(tmp_path / "frame.jpg"))
    run = evaluate(
        ToyEmbedding(), benchmarks.create("genai-bench-video-800", root=tmp_path), resamples=2
    )
    assert run.counts.cells == 42 + 40 and run.counts.failed == 0
    names = [row["image_name"] for row in Report([run]).rows()]
    assert names[2] == f"{tmp_path / 'Gen2/00000.mp4'}, frame 0" and all(names)
    # Frames that were taken out before come first.
    draw_frames(tmp_path, "Gen2", "00001", 3, 0)
    items = benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 3 + 2]
    assert items[1].images[2].endswith("frames/Gen2/video_00001_frame_0000.jpg")


def test_missing_videos_and_frames_are_named(tmp_path):
    write_videos(tmp_path)
    (tmp_path / "Pika_v1/00001.mp4").rename(tmp_path / "moved.mp4")
    with pytest.raises(BenchmarkDataError, match=r"Pika_v1/00001.mp4\. To get them, downl"):
        benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    content = (tmp_path / "moved.mp4").read_bytes()
    (tmp_path / "Pika_v1/00001.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkDataError, match="Pika_v1/00001.mp4: .*; fetch it again"):
        benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    draw_frames(tmp_path, "Pika_v1", "00001", 3, 0)
    assert benchmarks.create("genai-bench-video-800", root=tmp_path).items()
    (tmp_path / "frames/Pika_v1/video_00001_frame_0001.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*frame_0001.jpg"):
        benchmarks.create("genai-bench-video-800", root=tmp_path).items()


def test_frames_that_are_files_are_read_whole_where_there_is_no_video(tmp_path):
    write_videos(tmp_path)
    draw_frames(tmp_path, "Gen2", "00001", 3, 0)
    items = benchmarks.create("genai-bench-video-800", root=tmp_path, whole=True).items()
    assert items[1].images[1] == str(tmp_path / "Gen2/00001.mp4"), "the video comes first"
    (tmp_path / "Gen2/00001.mp4").unlink()
    draw_frames(tmp_path, "Gen2", "00001", 40, 0)
    items = benchmarks.create("genai-bench-video-800", root=tmp_path, whole=True).items()
    video = items[1].images[1]
    assert items[1].labels["frames"] == [[0], [1], [2]]
    assert isinstance(video, Video) and video.fps == 8.0
    output = read_clip(video, Sampling(40)).frames
    for k, item in enumerate(output):
        path = tmp_path / f"frames/Gen2/video_00001_frame_{k:04}.jpg"
        np.testing.assert_array_equal(item, Image.open(path))
    assert len(output) == 40, "not the first 36 alone"
    (tmp_path / "frames/Gen2/video_00001_frame_0001.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*frame_0001.jpg"):
        benchmarks.create("genai-bench-video-800", root=tmp_path, whole=True).items()


def test_other_generators_are_named(tmp_path):
    write_frames(tmp_path)
    json_with("genai_video.json", lambda c: c["00000"]["models"].update(new=[1]))(tmp_path)
    with pytest.raises(BenchmarkDataError, match="a generator 'new'; known are"):
        benchmarks.create("genai-bench-video-800", root=tmp_path).items()
