"""Winoground's adapter on drawn images in the published layout, with figures counted by hand."""

import json
import re

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.example import Example, duplicate_line, line_with
from helpers.benchmarks.expected_metrics import pairs_right_but_the_last
from helpers.toy import draw_image
from pyarrow import parquet

from t2v_eval.errors import BenchmarkDataError, T2VWarning
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.registry import benchmarks

ROWS = [
    {"collapsed_tag": "Object", "tag": "Noun", "secondary_tag": "", "num_main_preds": 1},
    {"collapsed_tag": "Relation", "tag": "Verb", "secondary_tag": "Series", "num_main_preds": 2},
    {
        "collapsed_tag": "Relation",
        "tag": "Scope",
        "secondary_tag": "Pragmatics, Symbolic",
        "num_main_preds": 3,
    },
]
ROWS = [
    {
        "id": n,
        "image_0": f"ex_{n}_img_0",
        "image_1": f"ex_{n}_img_1",
        "caption_0": f"some plants surrounding lightbulb {n}",
        "caption_1": f"lightbulb {n} surrounding some plants",
        **row,
    }
    for n, row in enumerate(ROWS)
]

pytestmark = pytest.mark.filterwarnings("ignore:.*winoground has 400:t2v_eval.errors.T2VWarning")


def write(root, rows=ROWS, folder="data"):
    images = root / folder / "images"
    images.mkdir(parents=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    for n in range(3):
        for i in range(2):
            draw_image(2 * n + i).save(images / f"ex_{n}_img_{i}.png")
    return root


EXAMPLES = {
    "winoground": Example(
        write=write,
        items=3,
        images=6,
        texts=6,
        tags={
            "Object": 1,
            "Relation": 2,
            "1 main predicate": 1,
            "2 main predicates": 1,
            "3 main predicates": 1,
            "Series": 1,
            "Pragmatics": 1,
            "Symbolic": 1,
        },
        metric=pairs_right_but_the_last,
        duplicate=duplicate_line("data/examples.jsonl", 0),
        duplicate_message="the id 0 occurs twice",
        malformed=line_with("data/examples.jsonl", 1, "{"),
        malformed_message="row 2 .*is not JSON",
    )
}


def opened(root):
    return benchmarks.create("winoground", root=root)


@pytest.mark.parametrize("folder", ["data", "."])
def test_items_are_read_from_the_unpacked_files(tmp_path, folder):
    items = opened(write(tmp_path, folder=folder)).items()
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[1].texts == [
        "some plants surrounding lightbulb 1",
        "lightbulb 1 surrounding some plants",
    ]
    got = np.asarray(decode(open_media(items[1].images[1])))
    np.testing.assert_array_equal(got, np.asarray(draw_image(3)))
    assert [item.tags for item in items] == [
        ("Object", "1 main predicate"),
        ("Relation", "2 main predicates", "Series"),
        ("Relation", "3 main predicates", "Pragmatics", "Symbolic"),
    ]


def test_items_are_read_from_parquet(tmp_path):
    source = write(tmp_path / "files")
    rows = [
        row
        | {
            f"image_{i}": {
                "bytes": (source / f"data/images/{row[f'image_{i}']}.png").read_bytes(),
                "path": f"{row[f'image_{i}']}.png",
            }
            for i in range(2)
        }
        for row in ROWS
    ]
    (tmp_path / "hub/data").mkdir(parents=True)
    for part, subset in enumerate((rows[:2], rows[2:])):
        name = f"test-{part:05}-of-00002-0123456789abcdef.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(subset), tmp_path / "hub/data" / name)
    from_parquet, from_files = opened(tmp_path / "hub").items(), opened(source).items()
    assert [item.id for item in from_parquet] == ["0", "1", "2"]
    for entry, other in zip(from_parquet, from_files, strict=True):
        assert (entry.texts, entry.tags) == (other.texts, other.tags)
        keys = [[open_media(image).key for image in item.images] for item in (entry, other)]
        assert keys[0] == keys[1]


def test_tags_of_why_winoground_is_hard_are_added(tmp_path):
    write(tmp_path)
    tags = {"0": [], "1": ["Unusual Image", "Visually Difficult"], "2": ["Complex Reasoning"]}
    (tmp_path / "why_winoground_hard.json").write_text(json.dumps(tags))
    items = opened(tmp_path).items()
    assert items[0].tags[2:] == ("No Tag",)
    assert items[1].tags[3:] == ("Unusual Image", "Visually Difficult")
    assert items[2].tags[4:] == ("Complex Reasoning",)
    (tmp_path / "why_winoground_hard.json").write_text("[1]")
    with pytest.raises(BenchmarkDataError, match="hard.json holds list, not dict"):
        opened(tmp_path).items()


def test_metrics_are_those_counted_by_hand(tmp_path):
    benchmark = opened(write(tmp_path))
    items = benchmark.items()
    scores = [  # [image][text]
        np.array([[0.9, 0.1], [0.2, 0.8]], np.float32),  # text and image right
        np.array([[0.9, 0.1], [0.95, 0.96]], np.float32),  # text right; image 1 wins caption 0
        np.array([[0.5, 0.5], [0.2, 0.8]], np.float32),  # a tie is wrong; images right
    ]
    actual = benchmark.metrics(items, scores)
    assert actual == {"text": 2 / 3, "image": 2 / 3, "group": 1 / 3}
    relation = [n for n, item in enumerate(items) if "Relation" in item.tags]
    actual = benchmark.metrics([items[n] for n in relation], [scores[n] for n in relation])
    assert actual == {"text": 0.5, "image": 0.5, "group": 0.0}
    # In both a resample is the metrics of the items that were drawn.
    resample = benchmark.statistic(items, scores)(np.array([0, 0, 1]))
    assert resample == {"text": 1.0, "image": 2 / 3, "group": 2 / 3}
    scores[0][0, 0] = np.nan
    assert benchmark.metrics(items, scores) == {"text": 0.5, "image": 0.5, "group": 0.0}
    nothing = [np.full((2, 2), np.nan, np.float32)] * 3
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())


def test_a_scorer_runs_on_it(tmp_path):
    from helpers.toy import ToyEmbedding

    run = evaluate(ToyEmbedding(), opened(write(tmp_path)), resamples=20)
    assert run.benchmark.items == 3
    assert run.benchmark.tags["Relation"] == 2
    assert run.counts.cells == 12
    assert list(run.metrics) == ["text", "image", "group"]


def test_fewer_items_than_published_are_said(tmp_path):
    with pytest.warns(T2VWarning, match="3 items and winoground has 400"):
        opened(write(tmp_path)).items()


def test_no_folder_names_the_page_and_the_agreement():
    with pytest.raises(BenchmarkDataError) as caught:
        benchmarks.create("winoground").items()
    assert "huggingface.co/datasets/facebook/winoground" in str(caught.value)
    assert "agreement" in str(caught.value)


def test_an_empty_folder_names_itself_and_what_it_lacks(tmp_path):
    with pytest.raises(BenchmarkDataError, match="neither data/examples.jsonl nor") as caught:
        opened(tmp_path).items()
    assert str(tmp_path) in str(caught.value)
    assert "huggingface.co/datasets/facebook/winoground" in str(caught.value)


def test_a_missing_image_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "data/images/ex_1_img_0.png").unlink()
    with pytest.raises(BenchmarkDataError, match="1 of 6 images are missing.*ex_1_img_0.png"):
        opened(tmp_path).items()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROWS[0], ": the id 0 occurs twice"),
        ("{not json", "row 4 (line 4) is not JSON"),
        ({"id": 3}, "row 4: there is no column 'image_0'"),
        (ROWS[0] | {"id": 3, "caption_1": 7}, "row 4: 'caption_1' is 7, not str"),
        (ROWS[0] | {"id": 3, "image_0": 7}, "row 4: 'image_0' is 7, not str"),
        (ROWS[0] | {"id": 3, "caption_0": ""}, "row 4: 'caption_0' is empty"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, row, message):
    with pytest.raises(BenchmarkDataError, match=re.escape(message)):
        opened(write(tmp_path, [*ROWS, row])).items()


def test_extra_files_do_not_matter(tmp_path):
    write(tmp_path)
    (tmp_path / "data/images/ex_9_img_0.png").write_bytes(b"")
    (tmp_path / "data/images.zip").write_bytes(b"")
    assert len(opened(tmp_path).items()) == 3
