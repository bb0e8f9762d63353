"""Benchmarks of ratings and labels: targets, tags and figures counted by hand or by an oracle."""

import json

import numpy as np
import pytest
from helpers.benchmarks.published_layouts import (
    genai_bench,
    seetrue,
    tifa160,
    tifa160_two_raters,
    write_json,
)
from scipy import stats

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def items_of(name, root):
    return benchmarks.create(name, root=root).items()


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def scored(items, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(len(item.images), len(item.texts)) for item in items]
    return [rng.integers(0, 5, shape).astype(np.float32) for shape in shapes]


def test_tifa160_likert(tmp_path):
    tifa160(tmp_path)
    items = items_of("tifa160", tmp_path)
    assert {item.id for item in items} == {
        "coco_669925", "coco_100240", "partiprompt_86", "partiprompt_1192", "partiprompt_1175",
        "partiprompt_1412",
    }  # fmt: skip
    assert items[0].texts == ["A Christmas tree with lights and teddy bear"]
    assert items[0].tags == ("coco",)
    assert sum(item.tags == ("partiprompt",) for item in items) == 4
    # Read off dsg_tifa160_anns.csv, for the five images of coco_669925 in the order of
    # tifa160.json: mini-dalle, sd1dot1, sd1dot5, sd2dot1, vq-diffusion.
    lines = (tmp_path / "dsg_tifa160_anns.csv").read_text().splitlines()
    inputs = {"mini-dalle": [], "sd1dot1": [], "sd1dot5": [], "sd2dot1": [], "vq-diffusion": []}
    for line in lines[1:]:
        if ",coco_669925," in line:
            inputs[line.split(",")[1]].append(int(line[-1]))
    assert {len(values) for values in inputs.values()} == {5}
    assert items[0].labels["human"] == [sum(values) / 5 for values in inputs.values()]
    assert [image.rsplit("/", 1)[1] for image in items[0].images][:2] == [
        "coco_669925_mini_dalle.jpg", "coco_669925_stable_diffusion_v1_1.jpg"
    ]  # fmt: skip


def test_tifa160_two_raters(tmp_path):
    tifa160_two_raters(tmp_path)
    items = items_of("tifa160-two-raters", tmp_path)
    assert len(items) == 6 and items[0].labels["human"][:2] == [5, 3]
    with pytest.raises(InputError, match="'likert' or 'tifa'"):
        benchmarks.create("tifa160", raters="all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["coco_669925_mini_dalle"].pop("text"), "there is no 'text'"),
        (lambda c: c["coco_669925_mini_dalle"].update(text=""), "'text' is empty, not str"),
        (lambda c: c["coco_669925_mini_dalle"].update(text="x"), "has the texts"),
        (lambda c: c.update(coco_669925_mini_dalle=3), "is int, not an object"),
        (lambda c: c.pop("coco_669925_mini_dalle"), "row .*: tifa160.json has no image of"),
        (lambda c: c.update(new=c["coco_669925_mini_dalle"]), "'new': the image has no ratings"),
    ],
)
def test_tifa160_malformed(tmp_path, change, message):
    tifa160(tmp_path)
    edit(tmp_path / "tifa160.json", change)
    with pytest.raises(BenchmarkDataError, match=message):
        items_of("tifa160", tmp_path)


def test_tifa160_ratings_out_of_range(tmp_path):
    tifa160(tmp_path)
    path = tmp_path / "dsg_tifa160_anns.csv"
    head, first, *rest = path.read_text().splitlines()
    for value, message in (("6", "'answer' is '6', not from 1 to 5"), ("good", "not a number")):
        path.write_text("\n".join([head, f"{first.rpartition(',')[0]},{value}", *rest]))
        with pytest.raises(BenchmarkDataError, match=f"row 1: .*{message}"):
            items_of("tifa160", tmp_path)


def test_genai_bench(tmp_path):
    genai_bench(tmp_path)
    items = items_of("genai-bench-1600", tmp_path)
    assert [item.id for item in items] == ["00000", "00001", "00007"]
    assert [item.tags for item in items] == [
        ("basic",),
        ("counting", "negation", "advanced"),
        ("attribute", "spatial relation", "basic"),
    ]
    assert items[1].labels["human"] == pytest.approx([4 / 3, 3, 3, 3, 3, 3])
    assert [image[len(str(tmp_path)) + 1 :] for image in items[2].images][::5] == [
        "DALLE_3/00007.jpeg", "SDXL_Base/00007.jpeg"
    ]  # fmt: skip


def test_all_images_are_one_sample(tmp_path):
    genai_bench(tmp_path)
    benchmark = benchmarks.create("genai-bench-527", root=tmp_path)
    items = benchmark.items()
    scores = scored(items)
    actual = benchmark.metrics(items, scores)
    assert list(actual) == ["acc23", "pearson", "tau_b", "spearman", "tau_c"]
    s = np.concatenate([entry.ravel() for entry in scores]).astype(float)
    h = np.concatenate([item.labels["human"] for item in items])
    assert actual["tau_b"] == pytest.approx(stats.kendalltau(s, h).statistic)
    assert actual["tau_c"] == pytest.approx(stats.kendalltau(s, h, variant="c").statistic)
    assert actual["pearson"] == pytest.approx(stats.pearsonr(s, h).statistic)
    # On the scale of the other metrics, and scores that are the ratings agree fully.
    perfect = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    tau_c = stats.kendalltau(h, h, variant="c").statistic
    assert benchmark.metrics(items, perfect) == pytest.approx(
        {"acc23": 1, "pearson": 1, "tau_b": 1, "spearman": 1, "tau_c": tau_c}
    )
    # A resample of prompts draws all images of a prompt.
    twice = benchmark.statistic(items, scores)(np.array([1, 1, 2]))
    s = np.concatenate([scores[n].ravel() for n in (1, 1, 2)]).astype(float)
    h = np.concatenate([items[n].labels["human"] for n in (1, 1, 2)])
    assert twice["spearman"] == pytest.approx(stats.spearmanr(s, h).statistic)


def test_missing_scores_are_left_out(tmp_path):
    genai_bench(tmp_path)
    benchmark = benchmarks.create("genai-bench-527", root=tmp_path)
    items = benchmark.items()
    scores = scored(items)
    scores[0][2, 0] = np.nan
    s = np.concatenate([entry.ravel() for entry in scores]).astype(float)
    h = np.concatenate([item.labels["human"] for item in items])
    valid = ~np.isnan(s)
    expected = stats.kendalltau(s[valid], h[valid]).statistic
    assert benchmark.metrics(items, scores)["tau_b"] == pytest.approx(expected)
    nothing = [np.full_like(entry, np.nan) for entry in scores]
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())
    with pytest.raises(InputError, match="has 5 cells and 6 ratings"):
        benchmark.metrics(items[:1], [scores[0][:5]])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("genai_image", lambda c: c["00000"].pop("prompt"), "'00000': there is no 'prompt'"),
        ("genai_image", lambda c: c["00000"]["models"].update(X=[1]), "generator 'X'; known are"),
        ("genai_image", lambda c: c["00000"].update(models={}), "there is no generator"),
        ("genai_image", lambda c: c["00000"]["models"].update(DALLE_3=[]), "'DALLE_3' has no"),
        ("genai_image", lambda c: c["00000"]["models"].update(DALLE_3=[0]), "from 1 to 5"),
        ("genai_skills", lambda c: c["counting"].append(9), "'counting' names the prompt 9"),
        ("genai_skills", lambda c: c.update(counting=1), "'counting' holds no list"),
    ],
)
def test_genai_bench_malformed(tmp_path, file, change, message):
    genai_bench(tmp_path)
    edit(tmp_path / f"{file}.json", change)
    with pytest.raises(BenchmarkDataError, match=message):
        items_of("genai-bench-1600", tmp_path)


def test_seetrue(tmp_path):
    seetrue(tmp_path)
    benchmark = benchmarks.create("seetrue", root=tmp_path)
    items = benchmark.items()
    assert sum(len(item.images) for item in items) == 28
    by_source = {}
    for item in items:
        by_source.setdefault(item.tags[0], []).append(item)
    assert {source: len(actual) for source, actual in by_source.items()} == {
        "drawbench": 3, "coco_t2i": 3, "editbench": 3
    }  # fmt: skip
    cats = next(item for item in items if item.texts[0].startswith("a few cats"))
    assert cats.labels == {"human": [0, 1, 1, 0]}
    # Scores that are the labels in two sources and reversed in the third.
    scores = [
        np.array(item.labels["human"], np.float32)[:, None]
        * (-1 if item.tags[0] == "editbench" else 1)
        for item in items
    ]
    actual = benchmark.metrics(items, scores)
    # No text of DrawBench here is labelled 1, so that its AUROC is undefined and not counted.
    assert actual["mean_auroc"] == pytest.approx((1 + 0) / 2)
    labels = np.concatenate([item.labels["human"] for item in items])
    flat = np.concatenate([entry.ravel() for entry in scores])
    wins = [(a > b) + (a == b) / 2 for a in flat[labels == 1] for b in flat[labels == 0]]
    assert actual["auroc"] == pytest.approx(np.mean(wins))


def test_seetrue_missing_scores_keep_their_rows(tmp_path):
    seetrue(tmp_path)
    benchmark = benchmarks.create("seetrue", root=tmp_path)
    items = benchmark.items()
    scores = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    for entry in scores:
        entry[0] = np.nan
    assert benchmark.metrics(items, scores)["auroc"] == 1, "no label moves to another row"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,text,2,1,drawbench", "'label' is '2', not 0 or 1"),
        ("a.png,text,,1,drawbench", "'label' is empty"),
        ("a.png,text", "2 values and the header names 5"),
        (None, "occurs twice with"),
    ],
)
def test_seetrue_malformed(tmp_path, line, message):
    seetrue(tmp_path)
    path = tmp_path / "SeeTRUE.csv"
    content = path.read_text()
    path.write_text(content + (line or content.splitlines()[1]) + "\n")
    with pytest.raises(BenchmarkDataError, match=f"row 29.*{message}"):
        items_of("seetrue", tmp_path)
