"""T2VScore's ratings of videos (TVGE): alignment and quality."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.benchmarks.example import Example, json_with, rating_faults
from helpers.benchmarks.expected_metrics import agreement, models_of
from helpers.benchmarks.small_files import copy, draw_frames, write_clip, write_json

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

GENERATORS = ("floor33", "gen2", "pika", "modelscope", "zeroscope")


def write_frames(root: Path, write_video: Callable[..., None] = draw_frames) -> None:
    copy(root, "agreement/t2vscore/t2vscore_alignment_score.json")
    ratings = json.loads((root / "t2vscore_alignment_score.json").read_text())
    subset = {name: ratings[name] for name in list(ratings)[:2]}
    write_json(root / "t2vscore_alignment_score.json", subset)
    for name, row in subset.items():
        for k, model in enumerate(row["models"]):
            write_video(root, model, name.zfill(4), 3, 10 * k + int(name))


def write_videos(root: Path) -> None:
    write_frames(root, write_clip)
    (root / "t2vscore_alignment_score.json").rename(root / "t2vscore_quality_score.json")


def example(write: Callable[[Path], None], target: str) -> Example:
    return Example(
        write=write,
        items=2,
        images=2 * 5 * 3,
        texts=2,
        tags={},
        metric=agreement(models_of(f"t2vscore_{target}_score.json", *GENERATORS)),
        **rating_faults(f"t2vscore_{target}_score.json"),
    )


EXAMPLES = {
    "t2vscore-alignment": example(write_frames, "alignment"),
    "t2vscore-quality": example(write_videos, "quality"),
}


def test_t2vscore(tmp_path):
    write_frames(tmp_path)
    items = benchmarks.create("t2vscore-alignment", root=tmp_path).items()
    assert items[0].texts == ["2 Dog and a whale, ocean adventure"]
    # In the authors' order of generators: floor33, gen2, pika, modelscope, zeroscope.
    assert items[0].labels["human"] == [1.3, 2.2, 1.2, 2.5, 1.9]
    assert len(items[0].images) == 15
    with pytest.raises(InputError, match="'alignment' or 'quality'"):
        benchmarks.create("t2vscore-alignment", target="beauty")


def test_other_generators_are_named(tmp_path):
    write_frames(tmp_path)
    file = "t2vscore_alignment_score.json"
    json_with(file, lambda c: next(iter(c.values()))["models"].update(new=[1]))(tmp_path)
    with pytest.raises(BenchmarkDataError, match="has the generators .*new"):
        benchmarks.create("t2vscore-alignment", root=tmp_path).items()
