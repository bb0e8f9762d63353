"""Benchmarks of true and false texts, and of pairs of pairs, with figures counted by hand."""

import io
import json

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.choice_layouts import (
    aro_attribution,
    aro_order,
    aro_relation,
    eqben_mini,
    foil,
    naturalbench,
    pascal_50s,
    sugarcrepe,
)
from helpers.benchmarks.published_layouts import LAYOUTS
from helpers.benchmarks.small_files import jpeg, write_json
from helpers.toy import ToyEmbedding, expected
from PIL import Image
from pyarrow import parquet

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import decode
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


@pytest.fixture
def benchmark(tmp_path):
    sugarcrepe(tmp_path)
    return benchmarks.create("sugarcrepe", root=tmp_path)


def test_sugarcrepe(benchmark):
    items = benchmark.items()
    assert [item.id for item in items][:3] == ["add_att/0", "add_att/1", "add_obj/0"]
    assert items[0].texts == [
        "A drawing of a young woman with many facial piercings.",
        "A drawing of a tattooed young woman with many facial piercings.",
    ]
    assert items[0].images[0].endswith("val2017/000000085329.jpg")
    assert items[0].tags == ("add_att", "add") and items[-1].tags == ("swap_obj", "swap")
    tags = [tag for item in items for tag in item.tags]
    assert tags.count("replace") == 6 and tags.count("add") == tags.count("swap") == 4


def test_a_tie_is_wrong_and_parts_count_alike(benchmark):
    items = benchmark.items()
    scores = [np.array([[0.9, 0.1]], np.float32) for _ in items]
    scores[0] = np.array([[0.5, 0.5]], np.float32)
    scores[2] = np.array([[0.1, 0.5]], np.float32)
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx(6 / 7),
        "accuracy": pytest.approx(12 / 14),
    }
    # Without three of the last part's and the one before's items, the parts still count alike.
    actual = benchmark.statistic(items, scores)(np.array([0, 1, 2, 2, 3, 4, 5]))
    assert actual["accuracy"] == pytest.approx(4 / 7)
    assert actual["macro"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    scores[0][:] = np.nan
    assert benchmark.metrics(items, scores)["accuracy"] == pytest.approx(12 / 13)
    nothing = [np.full((1, 2), np.nan, np.float32)] * len(items)
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())


RIGHT, TEXT_ONLY = ([[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]])


def test_eqben_mini(tmp_path):
    eqben_mini(tmp_path)
    benchmark = benchmarks.create("eqben-mini", root=tmp_path)
    items = benchmark.items()
    assert [item.tags for item in items] == [("eqbensd",), ("eqbenk",), ("eqbenk",), ("eqbeny",)]
    assert items[3].texts == ["eqbenyoucook2 caption 0", "eqbenyoucook2 caption 1"]
    assert items[3].images[1].endswith("images/eqbenyoucook2/3/1.png")
    scores = [np.array(entry, np.float32) for entry in (RIGHT, RIGHT, TEXT_ONLY, TEXT_ONLY)]
    assert benchmark.metrics(items, scores) == {"text": 1.0, "image": 0.5, "group": 0.5}


def test_naturalbench(tmp_path):
    naturalbench(tmp_path)
    benchmark = benchmarks.create("naturalbench-retrieval", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[2].texts == ["one 2", "other 2"]
    scores = [np.array(entry, np.float32) for entry in (RIGHT, RIGHT, TEXT_ONLY)]
    assert benchmark.metrics(items, scores)["group"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "write", "file", "change", "message"),
    [
        ("eqben-mini", eqben_mini, "all_select", {"image0": "new/1.png"}, "is of none of the sub"),
        (
            "eqben-mini",
            eqben_mini,
            "all_select",
            {"caption1": 3},
            "row 1: 'caption1' is 3, not str",
        ),
        ("naturalbench-retrieval", naturalbench, "metadata", {"index": 1}, "id 1 occurs twice"),
        ("naturalbench-retrieval", naturalbench, "metadata", {"image_0": ""}, "'image_0' is empty"),
    ],
)
def test_malformed_pairs(tmp_path, name, write, file, change, message):
    write(tmp_path)
    path = tmp_path / f"{file}.json"
    rows = json.loads(path.read_text())
    write_json(path, [rows[0] | change, *rows[1:]])
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create(name, root=tmp_path).items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption": " "}, "'0': 'caption' is ' ', not str"),
        ({"filename": None}, "'0': 'filename' is None, not str"),
    ],
)
def test_sugarcrepe_malformed(tmp_path, change, message):
    sugarcrepe(tmp_path)
    content = json.loads((tmp_path / "swap_obj.json").read_text(encoding="utf-8"))
    content["0"] |= change
    write_json(tmp_path / "swap_obj.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("sugarcrepe", root=tmp_path).items()


def test_pascal_50s(tmp_path):
    pascal_50s(tmp_path)
    benchmark = benchmarks.create("pascal-50s", root=tmp_path)
    items = benchmark.items()
    assert [item.texts[0] for item in items] == ["first", "second", "second", "first"] * 2
    assert items[0].references == [["a reference", "another"]]
    assert [item.tags for item in items][::2] == [("HC",), ("HI",), ("HM",), ("MM",)]
    scores = [np.array([[0.9, 0.1]], np.float32) for _ in items]
    scores[7][:] = 0.5
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx((1 + 1 + 1 + 0.5) / 4),
        "accuracy": pytest.approx(7 / 8),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "HC, row 1: there are 2 captions and the label 2"),
        ({"captions": ["one"]}, "there are 1 captions"),
        ({"references": "none"}, "'references' is 'none', not list"),
    ],
)
def test_pascal_50s_malformed(tmp_path, change, message):
    pascal_50s(tmp_path)
    content = json.loads((tmp_path / "pascal_50s.json").read_text())
    content["HC"][0] |= change
    write_json(tmp_path / "pascal_50s.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("pascal-50s", root=tmp_path).items()


def pairs(*scores):
    return [np.array([item], np.float32) for item in scores]


def test_aro_relations(tmp_path):
    aro_relation(tmp_path)
    benchmark = benchmarks.create("aro-relation", root=tmp_path)
    items = benchmark.items()
    assert items[1].texts == ["the 1 is one", "the one is 1"]
    # "near" is true both ways round.
    assert [item.tags for item in items] == [("riding",), ("riding",), ("on",), (), ("riding",)]
    whole = Image.open(tmp_path / "images/1.jpg")
    np.testing.assert_array_equal(decode(items[1].images[0]), whole.crop((1, 2, 1 + 6, 2 + 5)))
    assert items[1].images[0].key == items[3].images[0].key != items[0].images[0].key
    scores = pairs([2, 1], [1, 2], [1, 1], [3, 4], [5, 4])  # a tie is wrong
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx((2 / 3 + 0) / 2),
        "accuracy": pytest.approx(2 / 5),
    }
    assert benchmark.statistic(items, scores)(np.array([3, 0, 0])) == {
        "macro": 1.0, "accuracy": pytest.approx(2 / 3)
    }  # fmt: skip
    assert np.isnan(benchmark.statistic(items, scores)(np.array([3]))["macro"])


def test_aro_attributes(tmp_path):
    aro_attribution(tmp_path)
    benchmark = benchmarks.create("aro-attribution", root=tmp_path)
    items = benchmark.items()
    # 25 rows of one pair count in the mean over pairs, two of another do not.
    assert [item.tags for item in items] == [("red_tall",)] * 25 + [()] * 2
    scores = pairs(*[[2, 1]] * 20, *[[1, 2]] * 7)
    assert benchmark.metrics(items, scores) == {"macro": 20 / 25, "accuracy": 20 / 27}


def test_aro_orders(tmp_path):
    aro_order(tmp_path)
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
    scores = pairs(
        [5, 1, 2, 3, 4], [5, 1, 2, 3, 5], [5, 6, 2, 3, 4], [5, 1, 2, 3, 4], [1, 0, 0, 0, 0]
    )
    assert benchmark.metrics(items, scores) == {"accuracy": pytest.approx(3 / 5)}
    assert benchmark.headline == "accuracy" and benchmark.chance == {"accuracy": 1 / 5}


def test_foil(tmp_path):
    foil(tmp_path)
    benchmark = benchmarks.create("foil-4-ref", root=tmp_path)
    items = benchmark.items()
    # The true caption of 12 has no foil, the one of 9 has two.
    assert [item.id for item in items] == ["7/1", "9/4", "9/3"]
    assert items[0].texts == ["A dog on a bed.", "A cat on a bed."]
    assert items[0].images[0].endswith("val2014/COCO_val2014_000000042200.jpg")
    assert items[1].references == [[f"Caption {k} of 74 ." for k in range(4)]]
    entry = benchmarks.create("foil-1-ref", root=tmp_path).items()
    assert [item.references for item in entry][1:] == [[["Caption 0 of 74 ."]]] * 2
    scores = pairs([2, 1], [1, 1], [3, 1])
    assert benchmark.metrics(items, scores) == {"accuracy": pytest.approx(2 / 3)}


def test_scorers_with_and_without_references_run_on_foil(tmp_path):
    foil(tmp_path)
    run = evaluate(ToyEmbedding(), benchmarks.create("foil-1-ref", root=tmp_path), resamples=5)
    reference = []
    for item in run.items:
        true, wrong = (expected(Image.open(item.images[0]), text) for text in item.texts)
        reference.append(true > wrong)
    assert run.metrics["accuracy"].value == pytest.approx(np.mean(reference))


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
        ("foil-4-ref", "foilv1.0_test_2017", {"id": 9}, "row 3: the id 9 has two true captions"),
        ("foil-4-ref", "foilv1.0_test_2017", {"id": 8}, "row 2: there is no true caption of the i"),
        ("foil-4-ref", "foilv1.0_test_2017", {"foil": "no"}, "row 1: 'foil' is 'no', not bool"),
        ("foil-4-ref", "captions_val2014", {"image_id": 5}, "has 4 other|has 3 other"),
        ("foil-4-ref", "captions_val2014", {"caption": ""}, "row 1: 'caption' is empty"),
    ],
)
def test_aro_and_foil_malformed(tmp_path, name, file, change, message):
    LAYOUTS[name](tmp_path)
    path = tmp_path / f"{file}.json"
    content = json.loads(path.read_text())
    rows = content if isinstance(content, list) else content["annotations"]
    at = 1 if change == {"image_id": 5} else 0
    rows[at] |= change
    write_json(path, content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create(name, root=tmp_path).items()


def test_aro_orders_malformed(tmp_path):
    aro_order(tmp_path)
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
