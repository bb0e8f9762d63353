"""GEdit-Bench and ImgEdit-Bench: instructions, sources, and results in the authors' layout."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.example import Example, duplicate_key, json_with, table_with
from helpers.benchmarks.expected_metrics import per_item
from helpers.benchmarks.small_files import draw, jpeg, write_json
from pyarrow import parquet
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, MissingDataError, T2VWarning
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.inputs.image_file import open_image
from t2v_eval.inputs.media import Edit, Media

TABLE = "data/train-00000-of-00001.parquet"
ROWS = [  # task, language, key, shared
    ("color_alter", "en", "0a1b_2", True),
    ("color_alter", "cn", "0a1b_2", True),
    ("subject-add", "en", "ff00", False),
]
EDITS = {
    "1082": {"id": "animal/1.jpg", "prompt": "Make the shell smooth.", "edit_type": "adjust"},
    "97": {"id": "for_add/2.jpg", "prompt": "Add a lamp.", "edit_type": "add"},
    "22": {"id": "for_add/3.jpg", "prompt": "Add a dog.", "edit_type": "add"},
}


def write_gedit(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    rows = []
    for n, (task, language, key, shared) in enumerate(ROWS):
        rows.append(
            {
                "task_type": task,
                "key": key,
                "instruction": f"Change {n}.",
                "instruction_language": language,
                "input_image": {"bytes": jpeg(n), "path": None},
                "Intersection_exist": shared,
            }
        )
        folder = root / "images" / "fullset" / task / language
        draw(folder / f"{key}.png", 10 + n)
        draw(folder / f"{key}_SRCIMG.png", n)
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / TABLE)


def duplicate_row(root: Path) -> None:
    rows = parquet.read_table(root / TABLE).to_pylist()
    parquet.write_table(pyarrow.Table.from_pylist([*rows, rows[2]]), root / TABLE)


def write_imgedit(root: Path) -> None:
    write_json(root / "basic_edit.json", EDITS)
    for n, (key, row) in enumerate(EDITS.items()):
        draw(root / "original_images" / row["id"], n)
        draw(root / "images" / f"{key}.png", 10 + n)


def metric(items, _):
    return per_item(items, lambda n: [[0.0, 1.0, 5.0][n]]), {"score": 2.0}


EXAMPLES = {
    "gedit-bench": Example(
        write=write_gedit,
        items=3,
        images=3,
        texts=3,
        tags={"color_alter": 2, "subject-add": 1, "en": 2, "cn": 1, "intersection": 2},
        metric=metric,
        duplicate=duplicate_row,
        duplicate_message="the id subject-add/en/ff00 occurs twice",
        malformed=table_with(TABLE, "instruction", ""),
        malformed_message=f"{TABLE}, row 1: 'instruction' is empty",
    ),
    "imgedit-bench": Example(
        write=write_imgedit,
        items=3,
        images=3,
        texts=3,
        tags={"adjust": 1, "add": 2},
        metric=metric,
        duplicate=duplicate_key("basic_edit.json"),
        duplicate_message="the key '1082' occurs twice",
        malformed=json_with("basic_edit.json", lambda content: content["97"].pop("id")),
        malformed_message="basic_edit.json, '97': there is no 'id'",
    ),
}


def test_gedit_edits_have_the_source_of_the_table_and_the_result_of_the_folder(tmp_path):
    write_gedit(tmp_path)
    # A result folder of the authors' script, or its folder fullset.
    for images in (tmp_path / "images", tmp_path / "images" / "fullset"):
        items = open_benchmark("gedit-bench", tmp_path, images=[images]).items()
        for n, (item, (task, language, key, _)) in enumerate(zip(items, ROWS, strict=True)):
            [edit] = item.images
            assert isinstance(edit, Edit) and isinstance(edit.source, Media)
            path = tmp_path / "images" / "fullset" / task / language / f"{key}.png"
            assert edit.result == str(path)
            expected = open_image(jpeg(n), "source")
            assert np.array_equal(np.asarray(edit.source.load()), np.asarray(expected))
    assert [item.texts for item in items] == [["Change 0."], ["Change 1."], ["Change 2."]]


def test_gedit_without_tables_says_so(tmp_path):
    with pytest.raises(MissingDataError, match=r"holds no \*\.parquet"):
        open_benchmark("gedit-bench", tmp_path, images=[tmp_path]).items()


def test_imgedit_sources_are_found_by_their_paths(tmp_path):
    write_imgedit(tmp_path)
    items = open_benchmark("imgedit-bench", tmp_path, images=[tmp_path / "images"]).items()
    for item, (key, row) in zip(items, EDITS.items(), strict=True):
        source = tmp_path / "original_images" / row["id"]
        assert item.images == [Edit(str(source), str(tmp_path / "images" / f"{key}.png"))]
        assert item.texts == [row["prompt"]]


@pytest.fixture(scope="module")
def authors(goldens):
    """Results of ours, and what the authors' functions make of them."""
    return json.loads((goldens / "edit_results.json").read_text())


def measured(benchmark, file, *flags):
    """The metrics that the command prints, and what it says."""
    command = ["results", str(file), "-b", benchmark, "--resamples", "5", "--json", *flags]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", T2VWarning)
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["metrics"]
    return {tag: {k: v["value"] for k, v in of.items()} for tag, of in metrics.items()}, done.stderr


def test_imgedit_results_are_those_of_the_authors_scripts(authors, tmp_path):
    golden = authors["imgedit"]
    write_json(tmp_path / "basic_edit.json", golden["edits"])
    failed = {"128": {"error": "timed out"}}  # as basic_bench.py writes it
    write_json(tmp_path / "result.json", golden["replies"] | failed)
    metrics, message = measured("imgedit-bench", tmp_path / "result.json", "--root", str(tmp_path))
    by_type = {tag: round(of["score"], 2) for tag, of in metrics.items() if tag != "all"}
    assert by_type == golden["types"]
    averages = golden["average"]
    assert metrics["all"]["score"] == pytest.approx(np.mean([*averages.values()]))
    missing = len(golden["edits"]) - len(averages)
    assert f"{missing} of {len(golden['edits'])} results are missing" in message
    benchmark = open_benchmark("imgedit-bench", tmp_path)
    with pytest.warns(T2VWarning, match="3 of 15 replies do not have three grades from 1 to 5"):
        items, scores = benchmark.read_results(tmp_path / "result.json")
    of_items = zip(items, scores, strict=True)
    assert {i.id: s.item() for i, s in of_items if np.isfinite(s)} == averages
    write_json(tmp_path / "result.json", {"7": "Prompt Compliance: 1"})
    with pytest.raises(BenchmarkDataError, match="'7' is no key of .*basic_edit.json"):
        benchmark.read_results(tmp_path / "result.json")


def write_gedit_results(path, rows):
    columns = ["source_image", "edited_image", "instruction", "sementics_score", "quality_score"]
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*columns, "intersection_exist", "instruction_language"])
        for image, semantics, quality, shared in rows:
            edited = f"/results/mine/fullset/{image}"
            language = image.split("/")[1]
            table.writerow(["x", edited, "Do, please.", semantics, quality, shared, language])


def test_gedit_results_are_those_of_the_authors_script(authors, tmp_path):
    golden = authors["gedit"]
    write_gedit_results(tmp_path / "mine_combined_gpt_score.csv", golden["rows"])
    metrics, _ = measured("gedit-bench", tmp_path / "mine_combined_gpt_score.csv")
    printed = golden["printed"]
    assert metrics.keys() - printed.keys() == {"all"}
    assert len(printed) == 2 * 2 * (11 + 1)
    for tag, figures in printed.items():
        assert [*metrics[tag].values()] == pytest.approx(figures, abs=1e-12), tag
    assert [*metrics["en"]] == ["semantic_consistency", "perceptual_quality", "overall"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a/en/1.png", 11, 5, True], "row 2: 'sementics_score' is '11', not from 0 to 10"),
        (["a/en/1.png", 5, "x", True], "row 2: 'quality_score' is 'x', not a number"),
        (["a/en/1.png", 5, 5, "yes"], "'intersection_exist' is 'yes'"),
        (["a/en/0.png", 5, 5, True], "row 2: a/en/0 occurs twice"),
    ],
)
def test_wrong_results_of_gedit_are_named(tmp_path, row, message):
    write_gedit_results(tmp_path / "r.csv", [["a/en/0.png", 1, 2, False], row])
    with pytest.raises(BenchmarkDataError, match=message):
        open_benchmark("gedit-bench").read_results(tmp_path / "r.csv")
