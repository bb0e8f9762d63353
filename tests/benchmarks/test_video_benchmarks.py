"""Benchmarks of videos and of 3D objects: frames, grids and figures counted by hand."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.choice_layouts import CLASSES, camerabench_binary, camerabench_retrieval
from helpers.benchmarks.published_layouts import (
    LAYOUTS,
    frames,
    genai_bench_video,
    genai_bench_videos,
    stanfordt23d,
    t2vscore,
    t2vscore_quality,
    write_json,
)
from helpers.media.videos import by_hand
from helpers.toy import ToyEmbedding, expected
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from t2v_eval.benchmarks.forms.frames import FramesForm
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, MediaError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Video, decode, open_media
from t2v_eval.inputs.video import Sampling, clip
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import Report, compare

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def opened(name, root, **options):
    benchmark = benchmarks.create(name, root=root, **options)
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
    assert {len(group) for item in items for group in item.labels["frames"]} == {36}


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
    reference = stats.kendalltau([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    actual = benchmark.metrics(items, scores)
    assert actual["tau_b"] == pytest.approx(reference)
    reference = stats.pearsonr([1, 17.5, 35, 36, 37, 3, 0], [1, 2, 3, 4, 1, 2, 3]).statistic
    assert actual["pearson"] == pytest.approx(reference)
    scores[1][5, 0] = np.nan
    reference = stats.kendalltau([1, 17.5, 35, 36, 37, 0], [1, 2, 3, 4, 1, 3]).statistic
    assert benchmark.metrics(items, scores)["tau_b"] == pytest.approx(reference)


def test_frames_come_from_the_videos(tmp_path):
    genai_bench_videos(tmp_path)
    _, items = opened("genai-bench-video-800", tmp_path)
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 36 + 2]
    assert {len(group) for item in items for group in item.labels["frames"]} == {36}
    whole = by_hand(tmp_path / "Gen2/00001.mp4")
    assert len(whole) == 38
    for k, n in ((2, 0), (2 + 35, 35)):
        # As the authors keep a frame: a JPEG file of Pillow's default quality.
        Image.fromarray(whole[n]).save(tmp_path / "frame.jpg")
        actual = decode(open_media(items[1].images[k]))
        np.testing.assert_array_equal(actual, Image.open(tmp_path / "frame.jpg"))
    run = evaluate(ToyEmbedding(), opened("genai-bench-video-800", tmp_path)[0], resamples=2)
    assert run.counts.cells == 42 + 40 and run.counts.failed == 0
    names = [row["image_name"] for row in Report([run]).rows()]
    assert names[2] == f"{tmp_path / 'Gen2/00000.mp4'}, frame 0" and all(names)
    # Frames that were taken out before come first.
    frames(tmp_path, "Gen2", "00001", 3, 0)
    _, items = opened("genai-bench-video-800", tmp_path)
    assert [len(item.images) for item in items] == [2 + 36 + 2 + 2, 2 + 3 + 2]
    assert items[1].images[2].endswith("frames/Gen2/video_00001_frame_0000.jpg")


def test_missing_videos_and_frames_are_named(tmp_path):
    genai_bench_videos(tmp_path)
    (tmp_path / "Pika_v1/00001.mp4").rename(tmp_path / "moved.mp4")
    with pytest.raises(BenchmarkDataError, match=r"missing: .*Pika_v1/00001.mp4\. downl"):
        opened("genai-bench-video-800", tmp_path)
    content = (tmp_path / "moved.mp4").read_bytes()
    (tmp_path / "Pika_v1/00001.mp4").write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkDataError, match="Pika_v1/00001.mp4: .*; fetch it again"):
        opened("genai-bench-video-800", tmp_path)
    frames(tmp_path, "Pika_v1", "00001", 3, 0)
    assert opened("genai-bench-video-800", tmp_path)
    (tmp_path / "frames/Pika_v1/video_00001_frame_0001.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*frame_0001.jpg"):
        opened("genai-bench-video-800", tmp_path)


def test_camerabench_binary(tmp_path):
    camerabench_binary(tmp_path)
    benchmark, items = opened("camerabench-binary", tmp_path)
    assert len(items) == 14 * 2 + 3 and sum(item.tags == ("Static",) for item in items) == 3
    by_id = {item.id: item for item in items}
    entry = by_id["Move_Down/1.mp4"]
    assert entry.texts == ["Is it Move_Down?"] and entry.labels["human"] == [1]
    assert by_id["Static/1.mp4"].labels["human"] == [0]
    # Of 4 frames all, of 14 and 24 eight.
    sizes = [len(by_id[f"Static/{n}.mp4"].images) for n in range(3)]
    assert sizes == [4, 8, 8]
    reference = by_hand(tmp_path / "videos/1.mp4")[13 * 3 // 7]
    np.testing.assert_array_equal(decode(open_media(entry.images[3])), reference)
    # In the order of their files kinds have the videos 1 2, 0 2, 0 1, again and again, the first
    # one's answer being yes; Static has all three, 0's being yes. Scores order them 2 0 1: right
    # for 0 1, wrong for 1 2 and 0 2, and the yes of Static comes second of three.
    value = {"0.mp4": 1.5, "1.mp4": 1, "2.mp4": 2}
    scores = [
        np.full((len(item.images), 1), value[item.id.partition("/")[2]], np.float32)
        for item in items
    ]
    scores[0][: len(scores[0]) // 2] += 0.5  # frames of one video differ, their mean does not
    scores[0][len(scores[0]) // 2 :] -= 0.5
    actual = benchmark.metrics(items, scores)
    kinds = [2 if name == "Static" else k % 3 for k, name in enumerate(CLASSES)]
    precision = [1 if k == 2 else 0.5 for k in kinds]
    area = [float(k == 2) for k in kinds]
    static = CLASSES.index("Static")
    precision[static] = area[static] = 0.5
    assert actual["mean_average_precision"] == pytest.approx(np.mean(precision))
    assert actual["mean_auroc"] == pytest.approx(np.mean(area))
    chosen = [n for n, item in enumerate(items) if item.tags == ("Static",)]
    alone = benchmark.metrics([items[n] for n in chosen], [scores[n] for n in chosen])
    assert alone["average_precision"] == alone["mean_average_precision"] == 0.5
    assert alone["auroc"] == 0.5


def test_camerabench_retrieval(tmp_path):
    camerabench_retrieval(tmp_path)
    benchmark, items = opened("camerabench-retrieval", tmp_path)
    assert items[0].id == "motion_and_steadiness/all/1"
    assert items[0].tags == ("motion_and_steadiness", "skill-based")
    assert items[-1].tags == ("complex_description", "caption-based")
    assert sum(item.tags[0] == "has_motion" for item in items) == 2
    assert items[-1].texts == ["Is it complex_description?", "Is it not complex_description?"]
    assert [len(group) for group in items[-1].labels["frames"]] == [4, 8], "videos 0 and 1"

    def scored(item, means):
        # Frames are spread around their video's mean.
        entry = np.empty((len(item.images), 2), np.float32)
        for group, mean in zip(item.labels["frames"], means, strict=True):
            entry[group] = np.add(mean, np.linspace(-1, 1, len(group))[:, None])
        return entry

    right, text_only = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]]
    scores = [scored(item, text_only if "?" in item.texts[0][:6] else right) for item in items]
    assert sum("?" in item.texts[0][:6] for item in items) == 1, "one of has_motion's two"
    actual = benchmark.metrics(items, scores)
    reference = {"text": 1, "image": 9 / 10, "group": 9 / 10}
    reference |= {"mean_text": 1, "mean_image": 8.5 / 9, "mean_group": 8.5 / 9}
    assert actual == pytest.approx(reference)


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("binary", "binary_classification/Zoom_In", {"label": "Maybe"}, "'Maybe', not Yes or No"),
        ("binary", "binary_classification/Zoom_In", {"question": ""}, "row 1.*'question' is empty"),
        (
            "binary",
            "binary_classification/Zoom_In",
            {"image": "2.mp4"},
            "id Zoom_In/2.mp4 occurs",
        ),
        ("binary", "binary_classification/Static", {"image": "9.mp4"}, r"missing: .*9.mp4\. downl"),
        ("retrieval", "vqa_and_retrieval/tracking_shot/all", {"neg_text": 3}, "'neg_text' is 3"),
        ("retrieval", "vqa_and_retrieval/tracking_shot/all", None, "holds no file of questions"),
    ],
)
def test_camerabench_malformed(tmp_path, name, file, change, message):
    LAYOUTS[f"camerabench-{name}"](tmp_path)
    path = tmp_path / f"{file}.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | (change or {})), *rest]))
    if change is None:
        path.unlink()
    with pytest.raises(BenchmarkDataError, match=message):
        opened(f"camerabench-{name}", tmp_path)


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
    _, subset = opened("stanfordt23d-300", tmp_path)
    assert [len(item.labels["human"]) for item in subset] == [5, 5]
    assert subset[0].labels["human"] == items[0].labels["human"][:5]
    grid = np.asarray(Image.open(io.BytesIO(items[0].images[0]))).astype(int)
    views = [
        np.asarray(Image.open(tmp_path / f"dreamfusion/0/0/rgb_{view}.jpg").convert("RGB"))
        for view in (2, 15, 28, 41, 54, 67, 80, 93, 106)
    ]
    height, width = views[0].shape[:2]
    assert grid.shape == (3 * height, 3 * width, 3)
    for k in range(9):
        y, x = height * (k // 3), width * (k % 3)
        cell = grid[y : y + height, x : x + width]
        apart = [np.abs(cell - view).mean() for view in views]
        assert int(np.argmin(apart)) == k, "row by row"


def test_stanfordt23d_missing_views_are_named(tmp_path):
    stanfordt23d(tmp_path)
    (tmp_path / "shap-e/1/0/rgb_106.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*rgb_106.jpg"):
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


class ToyVideo(ToyEmbedding):
    """Reads a video whole: what it knows of one are the first two frames, in their order."""

    def load(self, media):
        if not isinstance(media, Video):
            return super().load(media)
        first, second = clip(media, Sampling(2, choose="first")).frames
        return Image.fromarray(np.hstack([np.asarray(first), np.asarray(second)]))


def first_two(path):
    return Image.fromarray(np.hstack(by_hand(path)[:2]))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("genai-bench-video-800", genai_bench_videos),
        ("t2vscore-quality", t2vscore_quality),
        ("camerabench-binary", camerabench_binary),
        ("camerabench-retrieval", camerabench_retrieval),
    ],
)
def test_videos_that_are_read_whole(tmp_path, name, write):
    write(tmp_path)
    benchmark = open_benchmark(name, tmp_path, whole=True)
    items = benchmark.items()
    for item in items:
        assert item.labels["frames"] == [[k] for k in range(len(item.images))]
        assert all(Path(path).suffix == ".mp4" for path in item.images)
    run = evaluate(ToyVideo(), benchmark, items=items, resamples=2)
    assert run.counts.failed == 0 and run.rated_units[0] == items[0].labels["frames"]
    entry, scores = items[-1], run.scores[-1]
    reference = [[expected(first_two(path), text) for text in entry.texts] for path in entry.images]
    np.testing.assert_allclose(scores, reference, rtol=1e-6)
    # A video's score is the metric's own: the form that compares them has nothing to average.
    plain = super(FramesForm, benchmark).statistic(items, run.scores)(np.arange(len(items)))
    actual = benchmark.metrics(items, run.scores)
    assert {key: actual[key] for key in plain} == pytest.approx(plain, nan_ok=True)
    assert run.benchmark.summary.endswith("here each video is read whole instead")
    assert not open_benchmark(name, tmp_path).card.summary.endswith("instead")


def test_a_scorer_of_images_does_not_read_videos_whole(tmp_path):
    camerabench_binary(tmp_path)
    benchmark = open_benchmark("camerabench-binary", tmp_path, whole=True)
    with pytest.raises(MediaError, match="at a time: score frames of it"):
        evaluate(ToyEmbedding(), benchmark, resamples=2)


def test_frames_that_are_files_are_read_whole_where_there_is_no_video(tmp_path):
    genai_bench_videos(tmp_path)
    frames(tmp_path, "Gen2", "00001", 3, 0)
    _, items = opened("genai-bench-video-800", tmp_path, whole=True)
    assert items[1].images[1] == str(tmp_path / "Gen2/00001.mp4"), "the video comes first"
    (tmp_path / "Gen2/00001.mp4").unlink()
    frames(tmp_path, "Gen2", "00001", 40, 0)
    _, items = opened("genai-bench-video-800", tmp_path, whole=True)
    video = items[1].images[1]
    assert items[1].labels["frames"] == [[0], [1], [2]]
    assert isinstance(video, Video) and video.fps == 8.0
    output = clip(video, Sampling(40)).frames
    for k, item in enumerate(output):
        path = tmp_path / f"frames/Gen2/video_00001_frame_{k:04}.jpg"
        np.testing.assert_array_equal(item, Image.open(path))
    assert len(output) == 40, "not the first 36 alone"
    (tmp_path / "frames/Gen2/video_00001_frame_0001.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*frame_0001.jpg"):
        opened("genai-bench-video-800", tmp_path, whole=True)


def test_whole_videos_that_are_missing_or_cut_are_named(tmp_path):
    camerabench_binary(tmp_path)
    path = tmp_path / "videos/1.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkDataError, match=r"videos/1.mp4: .*; fetch it again"):
        opened("camerabench-binary", tmp_path, whole=True)
    path.unlink()
    with pytest.raises(BenchmarkDataError, match=r"missing: .*videos/1.mp4\. downl"):
        opened("camerabench-binary", tmp_path, whole=True)
    with pytest.raises(InputError, match="whole='no': pass true or false"):
        opened("camerabench-binary", tmp_path, whole="no")


def test_options_of_a_benchmark_in_a_comparison_and_on_the_command_line(tmp_path):
    camerabench_binary(tmp_path)
    message = {"benchmark_options": {"whole": True}, "root": tmp_path, "resamples": 2}
    report = compare([ToyVideo()], ["camerabench-binary"], **message)
    assert {len(item.images) for item in report.runs[0].items} == {1}
    with pytest.raises(InputError, match="'scenes' takes no option 'whole'"):
        compare([ToyVideo()], ["scenes"], **message)
    command = f"eval -m tiny-clip -b camerabench-binary --root {tmp_path} --no-store".split()
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "whole=true"])
    assert actual.exit_code == 2 and "at a time" in actual.output
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "frames=1"])
    assert actual.exit_code == 0 and "mean_average_precision" in actual.output
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "whole"])
    assert actual.exit_code == 2 and "--benchmark-option 'whole': write KEY=VALUE" in actual.output
