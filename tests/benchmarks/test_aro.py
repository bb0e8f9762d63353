"""ARO: relations and attributes of boxes, and captions whose words are reordered."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.example import (
    TWICE,
    Example,
    duplicate_json_row,
    duplicate_table_row,
    json_with,
    table_with,
)
from helpers.benchmarks.expected_metrics import row, true_but_the_first
from helpers.benchmarks.small_files import draw, jpeg, write_json
from PIL import Image
from pyarrow import parquet

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.inputs.media import decode
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def vg_rows(key: str, parts: list[Any]) -> list[dict[str, Any]]:
    box = {"bbox_x": 1, "bbox_y": 2, "bbox_w": 6, "bbox_h": 5}
    return [
        {"image_id": str(n % 2), "image_path": f"{n % 2}.jpg", key: part, **box}
        | {"true_caption": f"the {n} is one", "false_caption": f"the one is {n}"}
        for n, part in enumerate(parts)
    ]


RELATIONS = ["riding", "riding", "on", "near", "riding"]

ATTRIBUTES = [["red", "tall"]] * 25 + [["old", "new"]] * 2


def write_relation(root: Path) -> None:
    write_json(root / "visual_genome_relation.json", vg_rows("relation_name", RELATIONS))
    for n in range(2):
        draw(root / "images" / f"{n}.jpg", n)


def write_attribution(root: Path) -> None:
    write_json(root / "visual_genome_attribution.json", vg_rows("attributes", ATTRIBUTES))
    for n in range(2):
        draw(root / "images" / f"{n}.jpg", n)


def write_order(root: Path) -> None:
    rows = [
        {"images": {"bytes": jpeg(n // 2), "path": None}, "correct_caption": f"a caption {n}"}
        | {f"hard_text_{k}": f"caption {n} a {k}" for k in range(1, 5)}
        for n in range(5)
    ]
    (root / "data").mkdir()
    for part, subset in enumerate((rows[:3], rows[3:])):
        path = root / "data" / f"test-0000{part}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(subset), path, row_group_size=2)


ORDER = Example(
    write=write_order,
    items=5,
    images=5,
    texts=25,
    tags={},
    metric=true_but_the_first(),
    duplicate=duplicate_table_row("data/test-00000-of-00002.parquet"),
    duplicate_message=TWICE,
    malformed=table_with("data/test-00000-of-00002.parquet", "correct_caption", ""),
    malformed_message="data/test-00000-of-00002.parquet, row 1: 'correct_caption' is empty",
)

EXAMPLES = {
    "aro-relation": Example(
        write=write_relation,
        items=5,
        images=5,
        texts=10,
        tags={"riding": 3, "on": 1},
        metric=true_but_the_first(3, 1),
        duplicate=duplicate_json_row("visual_genome_relation.json"),
        duplicate_message=TWICE,
        malformed=json_with("visual_genome_relation.json", lambda c: c[4].update(bbox_h=-1)),
        malformed_message="row 5: the box is 6 x -1",
    ),
    "aro-attribution": Example(
        write=write_attribution,
        items=27,
        images=27,
        texts=54,
        tags={"red_tall": 25},
        metric=true_but_the_first(25),
        duplicate=duplicate_json_row("visual_genome_attribution.json"),
        duplicate_message="warns: 1 of 28 items occur twice",
        malformed=json_with(
            "visual_genome_attribution.json", lambda c: c[0].update(attributes="red")
        ),
        malformed_message="row 1: 'attributes' is 'red', not list",
    ),
    "aro-coco-order": ORDER,
    "aro-flickr30k-order": ORDER,
}


def test_aro_relations(tmp_path):
    write_relation(tmp_path)
    benchmark = benchmarks.create("aro-relation", root=tmp_path)
    items = benchmark.items()
    assert items[1].texts == ["the 1 is one", "the one is 1"]
    # "near" is true both ways round.
    assert [item.tags for item in items] == [("riding",), ("riding",), ("on",), (), ("riding",)]
    whole = Image.open(tmp_path / "images/1.jpg")
    np.testing.assert_array_equal(decode(items[1].images[0]), whole.crop((1, 2, 1 + 6, 2 + 5)))
    assert items[1].images[0].key == items[3].images[0].key != items[0].images[0].key
    scores = [row(2, 1), row(1, 2), row(1, 1), row(3, 4), row(5, 4)]  # a tie is wrong
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx((2 / 3 + 0) / 2),
        "accuracy": pytest.approx(2 / 5),
    }
    assert benchmark.statistic(items, scores)(np.array([3, 0, 0])) == {
        "macro": 1.0, "accuracy": pytest.approx(2 / 3)
    }  # fmt: skip
    assert np.isnan(benchmark.statistic(items, scores)(np.array([3]))["macro"])


def test_aro_attributes(tmp_path):
    write_attribution(tmp_path)
    benchmark = benchmarks.create("aro-attribution", root=tmp_path)
    items = benchmark.items()
    # 25 rows of one pair count in the mean over pairs, two of another do not.
    assert [item.tags for item in items] == [("red_tall",)] * 25 + [()] * 2
    scores = [row(2, 1)] * 20 + [row(1, 2)] * 7
    assert benchmark.metrics(items, scores) == {"macro": 20 / 25, "accuracy": 20 / 27}


def test_aro_orders(tmp_path):
    write_order(tmp_path)
    benchmark = benchmarks.create("aro-coco-order", root=tmp_path)
    items = benchmark.items()
    assert items[4].texts == ["a caption 4", *(f"caption 4 a {k}" for k in range(1, 5))]
    assert [item.id[-7:] for item in items] == [f"00002/{n}" for n in (1, 2, 3, 1, 2)]
    keys = [item.images[0].key for item in items]
    assert keys[0] == keys[1] and keys[2] == keys[3] and len({*keys}) == 3
    for k, item in enumerate(items):
        np.testing.assert_array_equal(
            decode(item.images[0]), Image.open(io.BytesIO(jpeg(k // 2))).convert("RGB")
        )
    scores = [
        row(5, 1, 2, 3, 4),
        row(5, 1, 2, 3, 5),
        row(5, 6, 2, 3, 4),
        row(5, 1, 2, 3, 4),
        row(1, 0, 0, 0, 0),
    ]
    assert benchmark.metrics(items, scores) == {"accuracy": pytest.approx(3 / 5)}
    assert benchmark.headline == "accuracy" and benchmark.chance == {"accuracy": 1 / 5}


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("aro-relation", "visual_genome_relation", {"bbox_w": 0}, "row 1: the box is 0 x 5"),
        ("aro-relation", "visual_genome_relation", {"bbox_x": "a"}, "'bbox_x' is 'a', not float"),
        ("aro-relation", "visual_genome_relation", {"relation_name": None}, "'relation_name' is N"),
        ("aro-attribution", "visual_genome_attribution", {"attributes": ["red"]}, "1 attributes,"),
        (
            "aro-attribution",
            "visual_genome_attribution",
            {"image_path": "9.jpg"},
            "missing: .*9.jpg",
        ),
    ],
)
def test_aro_malformed(tmp_path, name, file, change, message):
    EXAMPLES[name].write(tmp_path)
    json_with(f"{file}.json", lambda rows: rows[0].update(change))(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create(name, root=tmp_path).items()


def test_aro_orders_malformed(tmp_path):
    write_order(tmp_path)
    path = tmp_path / "data/test-00001-of-00002.parquet"
    rows = parquet.read_table(path).to_pylist()
    for change, message in (
        ({"images": None}, "row 1: 'images' holds no image"),
        ({"hard_text_2": ""}, "row 1: 'hard_text_2' is empty"),
    ):
        parquet.write_table(pyarrow.Table.from_pylist([rows[0] | change, *rows[1:]]), path)
        with pytest.raises(BenchmarkDataError, match=message):
            benchmarks.create("aro-coco-order", root=tmp_path).items()
    parquet.write_table(pyarrow.Table.from_pylist([{"images": b"1"}]), path)
    with pytest.raises(BenchmarkDataError, match="there is no column 'correct_caption'"):
        benchmarks.create("aro-coco-order", root=tmp_path).items()
    path.write_bytes(b"no table")
    with pytest.raises(BenchmarkDataError, match="is not a Parquet file that can be read"):
        benchmarks.create("aro-coco-order", root=tmp_path).items()
