"""Benchmarks of preferences and of judged captions, with figures counted by hand."""

import json

import numpy as np
import pytest
from helpers.benchmarks.choice_layouts import composite, flickr8k
from helpers.benchmarks.published_layouts import (
    LAYOUTS,
    agiqa3k,
    genai_rank,
    hpdv2,
    imagereward,
    pickapic_100,
    write_json,
)
from scipy import stats

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def column(*values):
    return np.array(values, np.float32)[:, None]


def row(*values):
    return np.array([values], np.float32)


def opened(name, root):
    benchmark = benchmarks.create(name, root=root)
    return benchmark, benchmark.items()


def test_imagereward(tmp_path):
    imagereward(tmp_path)
    benchmark, items = opened("imagereward-test", tmp_path)
    assert items[0].id == "005658-0040" and items[0].labels["human"] == [-1, -2, -5, -3]
    assert [len(item.images) for item in items] == [4, 5, 6]
    # Ranks 3 2 3 2 5 have two tied pairs of ten, ranks 1 2 1 4 3 4 two of fifteen.
    scores = [column(4, 3, 1, 2), column(1, 1, 1, 1, 1), column(6, 5, 6, 2, 3, 1)]
    # All six right; none of eight; all thirteen.
    actual = benchmark.metrics(items, scores)
    assert actual["accuracy"] == pytest.approx((6 + 0 + 13) / (6 + 8 + 13))
    assert actual["ranking"] == pytest.approx((1 + 2 / 10 + 1) / 3)
    scores[0][0] = np.nan
    actual = benchmark.metrics(items, scores)
    assert actual["accuracy"] == pytest.approx((3 + 0 + 13) / (3 + 8 + 13))
    twice = benchmark.statistic(items, scores)(np.array([2, 2, 1]))
    assert twice["accuracy"] == pytest.approx(26 / 34)
    nothing = [np.full_like(entry, np.nan) for entry in scores]
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranking": [1, 2]}, "row 1: 4 images have 2 ranks"),
        ({"ranking": [1, 2, 3, "x"]}, "row 1: a rank is 'x', not a number"),
        ({"ranking": None}, "row 1: 'ranking' is None, not list"),
        ({"prompt": ""}, "row 1: 'prompt' is empty"),
        ({"id": "005805-0034"}, None),
    ],
)
def test_imagereward_malformed(tmp_path, change, message):
    imagereward(tmp_path)
    rows = json.loads((tmp_path / "test.json").read_text())
    if message is None:
        change, message = {"id": rows[1]["id"]}, "occurs twice"
    write_json(tmp_path / "test.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(BenchmarkDataError, match=message):
        opened("imagereward-test", tmp_path)


def test_hpdv2(tmp_path):
    hpdv2(tmp_path)
    benchmark, items = opened("hpdv2-test", tmp_path)
    assert items[0].labels["human"] == [-1, -3, -2]
    # Ranks 1 3 2: two of three pairs right. Ranks 1.5 1.5 3: the untied two right.
    actual = benchmark.metrics(items, [column(3, 2, 1), column(5, 4, 1)])
    assert actual == {"accuracy": pytest.approx(4 / 5), "ranking": pytest.approx((2 / 3 + 1) / 2)}
    assert benchmark.headline == "ranking"


def test_pickapic(tmp_path):
    pickapic_100(tmp_path)
    benchmark, items = opened("pickapic-100", tmp_path)
    assert [item.id for item in items] == ["1", "9", "385"], "in the authors' order, 2 not chosen"
    assert items[1].labels["human"] == [0, 1] and items[2].labels["human"] == [0.5, 0.5]
    # Right, a tie of scores for a preference, and a preference for the user's tie.
    actual = benchmark.metrics(items, [column(2, 1), column(1, 1), column(1, 2)])
    assert actual == {"preference": pytest.approx((1 + 0.5 + 0.5) / 3), "accuracy": 0.5}
    assert benchmark.metrics(items, [column(2, 1), column(1, np.nan), column(1, 1)]) == {
        "preference": 1.0, "accuracy": 1.0
    }  # fmt: skip


def test_pickapic_test_reads_the_parquet_of_the_right_split(tmp_path):
    LAYOUTS["pickapic-test"](tmp_path)
    benchmark, items = opened("pickapic-test", tmp_path)
    assert [item.labels["human"] for item in items] == [[1, 0], [0, 1], [1, 0], [0.5, 0.5]]
    assert all(isinstance(image, bytes) for item in items for image in item.images)
    for path in (tmp_path / "data").glob("test_unique*"):
        path.unlink()
    assert len(benchmark.items()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_0": 0.3}, "id 1: the labels are 0.3 and 0"),
        ({"label_0": 1, "label_1": 1}, "the labels are 1 and 1"),
        ({"label_0": None}, "'label_0' is None, not float"),
        ({"id": 9}, "row 2: the id 9 occurs twice"),
        ({"image_1": 3}, "'image_1' is 3, not str"),
    ],
)
def test_pickapic_malformed(tmp_path, change, message):
    pickapic_100(tmp_path)
    rows = json.loads((tmp_path / "test_captions.json").read_text())
    write_json(tmp_path / "test_captions.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(BenchmarkDataError, match=message):
        opened("pickapic-100", tmp_path)


def test_agiqa(tmp_path):
    agiqa3k(tmp_path)
    _, items = opened("agiqa-3k", tmp_path)
    assert items[0].id == "statue of a man"
    assert [len(item.images) for item in items] == [10, 10, 10]
    assert [item.tags for item in items] == [(), ("anime style",), ("sci-fi style",)]
    assert items[0].labels["human"][:2] == [0.40889324, 3.481534167]
    _, items = opened("agiqa-3k-quality", tmp_path)
    assert items[0].labels["human"][:2] == [0.965602553, 3.058757207]
    content = (tmp_path / "data.csv").read_text()
    (tmp_path / "data.csv").write_text(content + content.splitlines()[1] + "\n")
    with pytest.raises(BenchmarkDataError, match="row 31: AttnGAN_normal_000.jpg occurs twice"):
        opened("agiqa-3k", tmp_path)


def test_genai_rank(tmp_path):
    genai_rank(tmp_path)
    benchmark, items = opened("genai-rank-sdxl", tmp_path)
    assert [item.tags[0] for item in items] == [
        "a perfect image", "no perfect image", "no perfect image"
    ]  # fmt: skip
    assert items[0].labels["human"] == [5, 4, 3, 3, 2, 1, 4, 4, 4]
    assert items[2].images[8].endswith("SDXL_Base/00800_09.jpeg")
    ratings = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    # The second prompt's images are all rated 4: it has no best image, and is not wrong.
    assert benchmark.metrics(items, ratings) == {
        "best_of_9": pytest.approx((5 + 4 + 4) / 3),
        "best_of_3": pytest.approx(((5 + 3 + 4) / 3 + 4 + (3 + 4 + 2) / 3) / 3),
        "ranking": 1.0,
        "top": 1.0,
    }
    actual = benchmark.metrics(items, [-entry for entry in ratings])
    assert actual["best_of_9"] == pytest.approx((1 + 4 + 1) / 3)
    assert actual["ranking"] == actual["top"] == 0
    # Prompts with and without a perfect image are those that the tags say.
    subset = [n for n, item in enumerate(items) if item.tags[0] == "no perfect image"]
    chosen = [items[n] for n in subset], [ratings[n] for n in subset]
    assert benchmark.metrics(*chosen)["best_of_9"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["00001"]["models"]["DALLE_3"].pop("4"), "has the images .*, not 1 to 9"),
        (lambda c: c["00001"]["models"].pop("DALLE_3"), "'00001': there is no 'DALLE_3'"),
        (lambda c: c["00001"]["models"]["DALLE_3"].update({"1": []}), "image 1 has no ratings"),
        (lambda c: c["00001"]["models"]["DALLE_3"].update({"1": [6]}), "not from 1 to 5"),
    ],
)
def test_genai_rank_malformed(tmp_path, change, message):
    genai_rank(tmp_path)
    content = json.loads((tmp_path / "human_rating.json").read_text())
    change(content)
    write_json(tmp_path / "human_rating.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        opened("genai-rank-dalle3", tmp_path)


def test_flickr8k_expert_counts_each_rating(tmp_path):
    flickr8k(tmp_path)
    benchmark, items = opened("flickr8k-expert", tmp_path)
    assert [item.id for item in items] == ["1_a.jpg", "2_b.jpg", "3_c.jpg"]
    # The photograph's own caption is left out; spaces are single, full stops stay.
    assert items[0].texts == ["Two girls sing .", "Car on a road ."]
    assert items[0].labels["human"] == [[1, 1, 2], [1, 1, 1]]
    assert items[0].references == [
        ["A dog runs .", "A brown dog .", "Dog", "The dog is fast .", "An animal ."]
    ]
    scores = [row(0.2, 0.1), row(0.4), row(0.3)]
    flat = np.repeat([0.2, 0.1, 0.4, 0.3], 3)
    human = [1, 1, 2, 1, 1, 1, 2, 3, 2, 1, 2, 1]
    actual = benchmark.metrics(items, scores)
    assert next(iter(actual)) == "tau_c"
    for name, variant in (("tau_c", "c"), ("tau_b", "b")):
        expected = stats.kendalltau(flat, human, variant=variant).statistic
        assert actual[name] == pytest.approx(expected)
    averaged = stats.kendalltau([0.2, 0.1, 0.4, 0.3], [4 / 3, 1, 7 / 3, 4 / 3], variant="c")
    assert actual["tau_c"] < averaged.statistic, "averaging the ratings gives more"


def test_flickr8k_cf_scores_own_captions_without_themselves(tmp_path):
    flickr8k(tmp_path)
    benchmark, items = opened("flickr8k-cf", tmp_path)
    assert [item.id for item in items] == ["1_a.jpg", "1_a.jpg 1_a.jpg#1", "2_b.jpg"]
    assert items[0].texts == ["Two girls sing .", "Car on a road ."]
    assert len(items[0].references[0]) == 5
    assert items[1].texts == ["A brown dog ."] and len(items[1].references[0]) == 4
    assert items[1].texts[0] not in items[1].references[0]
    actual = benchmark.metrics(items, [row(0.2, 0.1), row(0.9), row(0.4)])
    expected = stats.kendalltau([0.2, 0.1, 0.9, 0.4], [0, 1 / 3, 1, 2 / 3]).statistic
    assert next(iter(actual)) == "tau_b" and actual["tau_b"] == pytest.approx(expected)
    again = benchmark.metrics(items, [row(0.2, 0.1), row(0.9), row(0.4)])
    assert again == actual, "nothing is sampled"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("ExpertAnnotations", "1_a.jpg\t2_b.jpg#0\t1\t1\t2", "1_a.jpg with 2_b.jpg#0 occurs twice"),
        ("ExpertAnnotations", "1_a.jpg\t2_b.jpg#3\t1\t1\t5", "a rating is '5', not from 1 to 4"),
        ("ExpertAnnotations", "1_a.jpg\t9_z.jpg#0\t1\t1\t1", "has no caption 9_z.jpg#0"),
        ("ExpertAnnotations", "9_z.jpg\t1_a.jpg#0\t1\t1\t1", "no caption of 9_z.jpg, which was"),
        (
            "ExpertAnnotations",
            "1_a.jpg\t2_b.jpg#3\t1\t1",
            "line 6 has 4 values between tabs, not 5",
        ),
        ("Flickr8k.token", "1_a.jpg#0\tAgain .", "1_a.jpg#0 occurs twice"),
    ],
)
def test_flickr8k_malformed(tmp_path, file, line, message):
    flickr8k(tmp_path)
    with (tmp_path / f"{file}.txt").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(BenchmarkDataError, match=message):
        opened("flickr8k-expert", tmp_path)


def test_composite(tmp_path):
    composite(tmp_path)
    benchmark, items = opened("composite-captions", tmp_path)
    assert [item.id for item in items] == ["flickr8k/a.jpg", "flickr8k/b.jpg", "coco/c.jpg"]
    assert items[0].texts == ["a dog", "a cat"] and items[0].labels == {"human": [5, 1]}
    assert items[2].references == [["of c.jpg"]] and items[2].tags == ("coco",)
    actual = benchmark.metrics(items, [row(0.9, 0.2), row(0.8), row(0.5, 0.6)])
    expected = stats.kendalltau([0.9, 0.2, 0.8, 0.5, 0.6], [5, 1, 3, 4, 3], variant="c").statistic
    assert next(iter(actual)) == "tau_c" and actual["tau_c"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human": 6}, "flickr8k, row 1: 'human' is 6, not from 0 to 5"),
        ({"human": None}, "'human' is None, not a number"),
        ({"caption": ""}, "row 1: 'caption' is empty"),
        ({"references": ["other"]}, "the captions of a.jpg have different references"),
    ],
)
def test_composite_malformed(tmp_path, change, message):
    composite(tmp_path)
    content = json.loads((tmp_path / "composite.json").read_text())
    content["flickr8k"][0] |= change
    write_json(tmp_path / "composite.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        opened("composite-captions", tmp_path)
