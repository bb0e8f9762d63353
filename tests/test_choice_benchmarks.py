"""Benchmarks of true and false texts, and of pairs of pairs, with figures counted by hand."""

import json

import numpy as np
import pytest
from published_layouts import (
    eqben_mini,
    naturalbench,
    pascal_50s,
    sugarcrepe,
    sugarcrepe_pp,
    write_json,
)

from t2v_eval.errors import BenchmarkDataError
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
    found = benchmark.statistic(items, scores)(np.array([0, 1, 2, 2, 3, 4, 5]))
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["macro"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
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
    scores = [np.array(one, np.float32) for one in (RIGHT, RIGHT, TEXT_ONLY, TEXT_ONLY)]
    assert benchmark.metrics(items, scores) == {"text": 1.0, "image": 0.5, "group": 0.5}


def test_naturalbench(tmp_path):
    naturalbench(tmp_path)
    benchmark = benchmarks.create("naturalbench-retrieval", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[2].texts == ["one 2", "other 2"]
    scores = [np.array(one, np.float32) for one in (RIGHT, RIGHT, TEXT_ONLY)]
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


def test_sugarcrepe_pp_wants_both_true_captions_above_the_false_one(tmp_path):
    sugarcrepe_pp(tmp_path)
    benchmark = benchmarks.create("sugarcrepe-pp", root=tmp_path)
    items = benchmark.items()
    assert items[0].id == "replace_att/0" and items[-1].tags == ("swap_obj", "swap")
    assert items[0].texts == [
        "replace_att 0 is so",
        "so is replace_att 0",
        "replace_att 0 is not so",
    ]
    scores = [np.array([[0.9, 0.5, 0.1]], np.float32) for _ in items]
    scores[0][:] = [[0.9, 0.1, 0.5]]  # one of the two is below
    scores[2][:] = [[0.9, 0.5, 0.5]]  # a tie
    found = benchmark.metrics(items, scores)
    assert found == {"macro": pytest.approx(4 / 5), "accuracy": pytest.approx(8 / 10)}
    # Of the six orders of three scores, two have the false caption's last.
    assert benchmark.chance["accuracy"] == pytest.approx(2 / 6)


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
