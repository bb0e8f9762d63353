"""Tables of one's own as benchmarks: what becomes of rows, groups, tags and what is wrong."""

import json
import unicodedata

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.toy import ToyEmbedding, draw_image
from pyarrow import parquet
from scipy import stats
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError, TableError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.inputs.tables import write_table
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import compare

HUMAN = [5, 3, 1, 2, 2, "", 4]
TAGS = ["a;b"] * 3 + ["a"] * 3 + [""]
ROWS = [
    {"image": f"p{n}.png", "text": f"text {n // 3}", "human": h, "group": f"g{n // 3}", "tags": t}
    for n, (h, t) in enumerate(zip(HUMAN, TAGS, strict=True))
]


@pytest.fixture
def table(tmp_path):
    for n in range(7):
        draw_image(n).save(tmp_path / f"p{n}.png")

    def write(rows=ROWS, suffix=".csv"):
        path = tmp_path / f"judged{suffix}"
        write_table(path, rows)
        return path

    return write


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_names_may_be_composed_otherwise(on_disk, in_table, table, tmp_path):
    name = "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png"
    draw_image(1).save(tmp_path / unicodedata.normalize(on_disk, name))
    path = table([{**row, "image": unicodedata.normalize(in_table, name)} for row in ROWS[:2]])
    items = open_benchmark(str(path)).items()
    assert {image for item in items for image in item.images} == {
        str(tmp_path / unicodedata.normalize(on_disk, name))
    }


def test_percentages_beside_other_numbers_are_refused(table):
    path = table([{**ROWS[0], "human": "85%"}, {**ROWS[1], "human": "90"}])
    with pytest.raises(TableError, match=r"judged.csv, row 2: 'human' is 90, but 85% in row 1"):
        open_benchmark(str(path)).items()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_of_a_group_become_an_item(table, suffix):
    rows = [row | {"human": row["human"] or None} for row in ROWS]
    actual = open_benchmark(str(table(rows, suffix)))
    items = actual.items()
    assert [item.id for item in items] == ["g0", "g1", "7"]
    assert [len(item.images) for item in items] == [3, 3, 1]
    assert items[0].texts == ["text 0"] and items[0].labels == {"human": [5, 3, 1]}
    assert items[1].labels == {"human": [2, 2, None]}
    assert [item.tags for item in items] == [("a", "b"), ("a",), ()]


def test_all_rows_are_one_sample(table):
    actual = open_benchmark(str(table()))
    run = evaluate(ToyEmbedding(), actual, resamples=20)
    scores = np.concatenate([item.ravel() for item in run.scores])
    human, valid = [5, 3, 1, 2, 2, 4], [0, 1, 2, 3, 4, 6]
    expected = stats.kendalltau(scores[valid].astype(float), human).statistic
    assert run.metrics["tau_b"].value == pytest.approx(expected)
    assert next(iter(run.metrics)) == "acc23" and run.benchmark.items == 3
    assert run.benchmark.tags == {"a": 2, "b": 1}


@pytest.mark.parametrize("tags", [("a", "b"), ("a", "a")])
def test_rows_that_make_no_item_are_resampled_together(table, tags):
    """Each image has a text of its own: six cells to score in two groups, and not eighteen."""
    rows = [
        {"image": f"p{n}.png", "text": f"text {n}", "human": n * n % 5, "group": f"g{n // 3}"}
        | {"tags": tags[n % 2]}
        for n in range(6)
    ]
    actual = open_benchmark(str(table(rows)))
    assert [item.id for item in actual.items()] == [str(n) for n in range(1, 7)]
    run = evaluate(ToyEmbedding(), actual, resamples=50)
    assert run.counts.cells == 6
    assert run.benchmark.tags == ({"a": 6} if tags == ("a", "a") else {"a": 3, "b": 3})
    scores, human = np.concatenate(run.scores).ravel(), [n * n % 5 for n in range(6)]
    expected = {}
    for samples in ((0, 0), (0, 1), (1, 1)):
        rows_of = [n for g in samples for n in range(3 * g, 3 * g + 3)]
        s, h = scores[rows_of].astype(float), np.array(human)[rows_of]
        expected[samples] = stats.pearsonr(s, h).statistic
    resampled = run.bootstrap[""].resampled["pearson"]
    nearest = np.abs(resampled[:, None] - [*expected.values()])
    assert nearest.min(axis=1).max() < 1e-6, "each resample has both groups, or one of them twice"
    assert set(nearest.argmin(axis=1)) == {0, 1, 2}
    assert run.metrics["pearson"].value == pytest.approx(expected[0, 1])


def test_groups_change_places_as_a_whole(table):
    """With two groups there are but two exchanges that differ, so that p is 1/2 or 1."""
    rows = [
        {"image": f"p{n}.png", "text": f"{n} left", "human": n * n % 5, "group": f"g{n // 3}"}
        for n in range(6)
    ]
    custom = open_benchmark(str(table(rows)))
    (actual,) = compare([ToyEmbedding(), "toy-guesser"], [custom], resamples=50).differences
    assert set(actual.p.values()) <= {0.5, 1.0}


def test_labels_of_0_and_1_give_auroc(table):
    rows = [row | {"human": n % 2} for n, row in enumerate(ROWS)]
    run = evaluate(ToyEmbedding(), open_benchmark(str(table(rows))), resamples=5)
    assert list(run.metrics) == ["auroc", "average_precision"]
    assert run.benchmark.chance == {"auroc": 0.5}
    cells = np.concatenate([item.ravel() for item in run.scores])
    wins = [(a > b) + (a == b) / 2 for a in cells[1::2] for b in cells[::2]]
    assert run.metrics["auroc"].value == pytest.approx(np.mean(wins))


def test_columns_of_other_names(table):
    rows = [
        {"img": f"p{n}.png", "caption": "x", "r1": n, "r2": n + 1, "human": "not this"}
        for n in range(3)
    ]
    columns = {"image": "img", "text": "caption", "human": ["r1", "r2"]}
    items = open_benchmark(str(table(rows)), columns=columns).items()
    assert [item.labels["human"] for item in items] == [[0.5], [1.5], [2.5]]
    with pytest.raises(TableError, match="no column 'imgs'; the columns are 'img', 'caption'"):
        open_benchmark(str(table(rows)), columns=columns | {"image": "imgs"}).items()
    with pytest.raises(InputError, match="takes no `columns=`"):
        open_benchmark("scenes", columns=columns)


def test_lists_of_images_and_texts(table, tmp_path):
    rows = [
        {"images": ["p0.png", "p1.png"], "texts": ["x", "y"], "human": [[5, 1], [[1, 2], None]]},
        {"images": ["p2.png"], "texts": ["x"], "human": [3, 4]},
    ]
    items = open_benchmark(str(table(rows, ".jsonl"))).items()
    assert items[0].labels == {"human": [5, 1, 1.5, None]}
    assert items[1].labels == {"human": [3.5]}
    rows = [{"images": "p0.png; p1.png", "text": "x", "human": "5; 1"}]
    (item,) = open_benchmark(str(table(rows))).items()
    assert item.labels == {"human": [5, 1]} and len(item.images) == 2


def test_images_inside_parquet_and_below_a_root(table, tmp_path):
    content = (table().parent / "p0.png").read_bytes()
    for path, called in ((None, "t.parquet, row 1"), ("far/p0.png", "far/p0.png")):
        rows = [
            {"image": {"bytes": content, "path": path}, "text": "x", "human": h, "group": "g"}
            for h in (1, 2, 3)
        ]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
        (item,) = open_benchmark(str(tmp_path / "t.parquet")).items()
        (image,) = item.images
        assert image.key == open_media(content).key and image.name.endswith(called)
        assert item.labels == {"human": [2.0]}, "one image, whose rows are put together"
    broken = [rows[0] | {"image": {"bytes": b"no image", "path": path}}, rows[0]]
    parquet.write_table(pyarrow.Table.from_pylist(broken), tmp_path / "t.parquet")
    images = open_benchmark(str(tmp_path / "t.parquet")).items()[0].images
    with pytest.raises(MediaError, match="^far/p0.png: not an image"):
        decode(images[0])
    (tmp_path / "sub").mkdir()
    write_table(tmp_path / "sub" / "t.csv", ROWS)
    assert open_benchmark(str(tmp_path / "sub" / "t.csv"), root=tmp_path).items()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"image": "p0.png", "text": "x"}], TableError, "no column 'human'; the columns are"),
        (
            [{"img": "p0.png", "text": "x", "human": 1}],
            TableError,
            "nor 'image'.*{'image': 'img'}`$",
        ),
        ([{"image": "p9.png", "text": "x", "human": 1}], MediaError, "row 1: .*p9.png: no such"),
        ([{"image": "p0.png", "text": "", "human": 1}], TableError, "row 1: 'text' is empty"),
        (
            [{"image": "p0.png", "text": "x", "human": "good"}],
            TableError,
            "row 1: 'human' is 'good'",
        ),
        ([{"image": "p0.png", "text": "x", "human": ""}], TableError, "'human' is empty"),
        ([{"images": "p0.png;p1.png", "text": "x", "human": 1}], TableError, "need 2 human values"),
    ],
)
def test_what_is_wrong_is_named(table, rows, error, message):
    with pytest.raises(error, match=message):
        open_benchmark(str(table(rows))).items()


def test_the_command_takes_a_path(table, tmp_path):
    def call(*arguments, code=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result

    common = ("eval", "-m", "toy-colours", "--no-store", "-b")
    path = table()
    output = call(*common, path, "--out", tmp_path / "out").stdout
    assert "acc23" in output and "3 items" in output
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["runs"][0]["benchmark"]["name"] == str(path)
    assert "no such file" in call(*common, "nowhere.csv", code=2).stderr
    listed = call("list", "benchmarks", "--kind", "own").stdout
    assert "own-table" not in listed, "it has no name of its own"
    _, prompts, on_prompts, judgements, on_judgements = listed.splitlines()
    assert prompts.startswith("*.csv *.tsv *.txt") and "column prompt" in on_prompts
    assert judgements.startswith("*.csv *.tsv *.jsonl") and "image, text and human" in on_judgements


def test_other_files_are_no_benchmarks():
    with pytest.raises(LookupError):
        benchmarks.card("judged.xlsx")
    with pytest.raises(InputError, match="no such file"):
        benchmarks.create("own-table:nowhere.csv").items()
