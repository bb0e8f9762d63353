"""StanfordT23D: grids of nine views of 3D objects, rated by people."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, json_with, rating_faults
from helpers.benchmarks.expected_metrics import agreement, models_of
from helpers.benchmarks.small_files import copy, draw
from PIL import Image

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    copy(root, "stanfordt23d/stanfordt23d.json")
    for name, row in json.loads((root / "stanfordt23d.json").read_text()).items():
        for k, model in enumerate(row["models"]):
            for view in (2, 15, 28, 41, 54, 67, 80, 93, 106):
                draw(root / model / name / "0" / f"rgb_{view}.jpg", 10 * k + view)


GENERATORS = ("dreamfusion", "instant3d", "latent-nerf", "magic3d", "mvdream", "shap-e")


def example(*generators: str) -> Example:
    return Example(
        write=write,
        items=2,
        images=2 * len(generators),
        texts=2,
        tags={},
        metric=agreement(models_of("stanfordt23d.json", *generators)),
        **rating_faults("stanfordt23d.json"),
    )


EXAMPLES = {"stanfordt23d": example(*GENERATORS), "stanfordt23d-300": example(*GENERATORS[:5])}


def test_stanfordt23d_has_all_six_generators(tmp_path):
    write(tmp_path)
    items = benchmarks.create("stanfordt23d", root=tmp_path).items()
    assert items[0].texts == ["A torn hat"]
    assert items[0].labels["human"] == [2, 5, 2, 3, pytest.approx(7 / 3), pytest.approx(10 / 3)]
    subset = benchmarks.create("stanfordt23d-300", root=tmp_path).items()
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
    write(tmp_path)
    (tmp_path / "shap-e/1/0/rgb_106.jpg").unlink()
    with pytest.raises(BenchmarkDataError, match="missing: .*rgb_106.jpg"):
        benchmarks.create("stanfordt23d", root=tmp_path).items()


def test_other_generators_are_named(tmp_path):
    write(tmp_path)
    json_with("stanfordt23d.json", lambda c: next(iter(c.values()))["models"].update(new=[1]))(
        tmp_path
    )
    with pytest.raises(BenchmarkDataError, match="has the generators .*new, not dreamf"):
        benchmarks.create("stanfordt23d", root=tmp_path).items()
