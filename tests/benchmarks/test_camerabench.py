"""CameraBench: questions on the camera of videos, and pairs of videos and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_line, line_with
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import clip, write_lines
from helpers.media.videos import by_hand

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

CLASSES = (
    "Move_Down Move_In Move_Left Move_Out Move_Right Move_Up Pan_Left Pan_Right Roll_Clockwise "
    "Roll_Counterclockwise Static Tilt_Down Tilt_Up Zoom_In Zoom_Out"
).split()


def write_binary(root: Path) -> None:
    for k, kind in enumerate(CLASSES):
        # Each kind has two videos of three, one answer is yes; Static has all.
        videos = [n for n in range(3) if kind == "Static" or n != k % 3]
        rows = [
            {"image": f"{n}.mp4", "question": f"Is it {kind}?", "task": kind.replace("_", " ")}
            | {"label": "Yes" if n == videos[0] else "No", "label_name": f"cam_motion.{kind}"}
            for n in videos
        ]
        write_lines(root / "binary_classification" / f"{kind}.jsonl", rows)
    for n in range(3):
        clip(root / "videos" / f"{n}.mp4", n, 10 * n + 4)


SKILLS = (
    "complex_description confusable_motion has_motion motion_and_steadiness motion_direction "
    "motion_speed only_motion scene_dynamics tracking_shot"
).split()


def write_retrieval(root: Path) -> None:
    for k, skill in enumerate(SKILLS):
        videos = [f"{(n + k) % 3}.mp4" for n in range(2)]
        texts = [f"Is it {skill}?", f"Is it not {skill}?"]
        row = {"skill": skill, "task": "all", "images": videos, "texts": texts}
        for what, pair in (("video", videos), ("text", texts), ("question", texts)):
            row |= {f"pos_{what}": pair[0], f"neg_{what}": pair[1]}
        rows = [row, row | {"pos_text": "Is it?"}] if skill == "has_motion" else [row]
        write_lines(root / "vqa_and_retrieval" / skill / "all.jsonl", rows)
    for n in range(3):
        clip(root / "videos" / f"{n}.mp4", n, 10 * n + 4)


def all_cameras_right(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Scores are the answers; the figures of wrong ones are in the tests below."""
    scores = per_item(items, lambda n: items[n].labels["human"] * len(items[n].images))
    return scores, {"mean_average_precision": 1, "mean_auroc": 1, "average_precision": 1}


def pairs_of_videos(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Each video's frames have the score of the video with each text; the last pair is swapped."""

    def of(n: int) -> Any:
        cells = np.array([[0.9, 0.1], [0.2, 0.8]])[:: -1 if n == len(items) - 1 else 1]
        first, second = items[n].labels["frames"]
        return np.repeat(cells, [len(first), len(second)], axis=0)

    # Nine skills, the last of them of one pair; ten pairs.
    return per_item(items, of), {"mean_group": 8 / 9, "group": 9 / 10, "mean_text": 8 / 9}


EXAMPLES = {
    "camerabench-binary": Example(
        write=write_binary,
        items=31,
        # Static has the videos of 4, 8 and 8 frames, four kinds the last two, five the others.
        images=20 + 5 * (8 + 8) + 4 * (4 + 8) + 5 * (4 + 8),
        texts=31,
        tags=dict.fromkeys(CLASSES, 2) | {"Static": 3},
        metric=all_cameras_right,
        duplicate=duplicate_line("binary_classification/Zoom_In.jsonl"),
        duplicate_message="the id Zoom_In/2.mp4 occurs twice",
        malformed=line_with("binary_classification/Zoom_In.jsonl", 0, '{"image": "0.mp4"}'),
        malformed_message="Zoom_In.jsonl, row 1: there is no column 'question'",
    ),
    "camerabench-retrieval": Example(
        write=write_retrieval,
        items=10,
        # Pairs of the videos of 8, 8 and 4 frames: 0 1, 1 2 and 2 0 three times each, 2 0 again.
        images=3 * (12 + 16 + 12) + 12,
        texts=20,
        tags={
            "skill-based": 9,
            "caption-based": 1,
            "complex_description": 1,
            "confusable_motion": 1,
            "has_motion": 2,
            "motion_and_steadiness": 1,
            "motion_direction": 1,
            "motion_speed": 1,
            "only_motion": 1,
            "scene_dynamics": 1,
            "tracking_shot": 1,
        },
        metric=pairs_of_videos,
        duplicate=duplicate_line("vqa_and_retrieval/has_motion/all.jsonl", 0),
        duplicate_message="warns: 1 of 11 items occur twic",
        malformed=line_with("vqa_and_retrieval/has_motion/all.jsonl", 1, "[]"),
        malformed_message="row 2 .*is list, not a JSON",
    ),
}


def test_camerabench_binary(tmp_path):
    write_binary(tmp_path)
    benchmark = benchmarks.create("camerabench-binary", root=tmp_path)
    items = benchmark.items()
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
    write_retrieval(tmp_path)
    benchmark = benchmarks.create("camerabench-retrieval", root=tmp_path)
    items = benchmark.items()
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
        (
            "binary",
            "binary_classification/Static",
            {"image": "9.mp4"},
            r"9.mp4\. To get them, downl",
        ),
        ("retrieval", "vqa_and_retrieval/tracking_shot/all", {"neg_text": 3}, "'neg_text' is 3"),
        ("retrieval", "vqa_and_retrieval/tracking_shot/all", None, "holds no file of questions"),
    ],
)
def test_camerabench_malformed(tmp_path, name, file, change, message):
    EXAMPLES[f"camerabench-{name}"].write(tmp_path)
    path = tmp_path / f"{file}.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | (change or {})), *rest]))
    if change is None:
        path.unlink()
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create(f"camerabench-{name}", root=tmp_path).items()
