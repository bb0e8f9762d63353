"""Files that are damaged, or odd in a way that no published one is, are errors that name them."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest
from helpers.benchmarks.example import json_with
from helpers.benchmarks.examples import EXAMPLES, opened
from openpyxl import load_workbook
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, TableError
from t2v_eval.registry import benchmarks

BOOK = "AIGI2025_MOS_yn.xlsx"
LONG = "x" * 5000


def first(**fields):
    """Change fields of the first object of a list."""
    return lambda rows: rows[0].update(fields)


def line(**fields):
    """Change fields of the first line of JSON."""

    def change(path):
        head, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(head) | fields), *rest]))

    return change


def cell(place, value):
    def change(path):
        book = load_workbook(path)
        book.active[place] = value
        book.save(path)

    return change


def damaged_sheet(path):
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content.replace(b"<row", b"<row &#0;", 1))


def shifted(path):
    """A file whose end is whole, but whose pages are not where it says."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


@pytest.mark.parametrize(
    ("name", "pattern", "change", "message"),
    [
        ("evalmi-50k", BOOK, cell("A2", 7), "row 2: 'ImageName' is 7, not str"),
        ("evalmi-50k", BOOK, cell("A2", "ELLA/².png"), "row 2: the image is 'ELLA/².png'"),
        ("evalmi-50k", BOOK, cell("C2", True), "row 2: 'MOS2' is True, not a number"),
        ("evalmi-50k", BOOK, cell("A1", "Image Name"), "the first sheet has no column 'ImageName'"),
        ("evalmi-50k", BOOK, damaged_sheet, "is no workbook that can be read"),
        ("geneval", "*.jsonl", line(prompt={"a": 1}), "row 1: 'prompt' is {'a': 1}, not str"),
        ("geneval", "*.jsonl", line(tag=[["colors"]]), "row 1: 'tag' is .*, not str"),
        ("geneval2", "*.jsonl", line(prompt=["a"]), "row 1: 'prompt' is .*, not str"),
        ("partiprompts", "*.tsv", lambda path: path.write_text(""), r"has the columns \[\]"),
        (
            "aro-relation",
            "*relation.json",
            first(bbox_x=float("inf")),
            "'bbox_x' is inf, not a n",
        ),
        ("aro-relation", "*relation.json", first(bbox_w=10**400), "'bbox_w' is 1000.*, not a num"),
        ("aro-relation", "*relation.json", first(image_path=LONG), "1 of . images are missing"),
        ("hpdv3pp-text", "test_tf.json", first(path1=LONG), "1 of . images are missing"),
        ("editreward-bench", "*.parquet", shifted, "is not a Parquet file that can be read"),
    ],
)
def test_files_of_labels(tmp_path, name, pattern, change, message):
    EXAMPLES[name].write(tmp_path)
    file = next(tmp_path.rglob(pattern))
    if file.suffix == ".json":
        json_with(file.name, change)(file.parent)
    else:
        change(file)
    with pytest.raises(BenchmarkDataError, match=message):
        opened(name, tmp_path).items()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (5, "'wise_7_flux_imagen4' is int, not an object"),
        (None, "'wise_7_flux_imagen4' is NoneType"),
        ({"forward": {"judgement": "A"}}, "'forward' is .*, not list"),
        ({"reverse": ["A"]}, "'reverse': 'A' is no object with a judgement"),
    ],
)
def test_verdicts_of_another_form(tmp_path, results, message):
    EXAMPLES["mmrb2-t2i"].write(tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps({"wise_7_flux_imagen4": results}))
    with pytest.raises(BenchmarkDataError, match=message):
        opened("mmrb2-t2i", tmp_path).read_results(tmp_path / "mine.json")


def test_results_that_are_no_file():
    run = CliRunner().invoke(app, ["results", "/dev/null", "--benchmark", "caparena"])
    assert run.exit_code == 2 and "/dev/null: is a device, not a regular file" in run.output


def write_csv(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def rewards(rows, *, side="path_B"):
    head = ["path_A", side, "prompt", "VQ", "MQ", "TA", "Overall"]
    head += [f"reward_{name}_{s}" for name in ("VQ", "MQ", "TA", "Overall") for s in "AB"]
    labelled = [(a, b, "a cat", "A", "A", "A", "A", *[x, y] * 4) for a, b, x, y in rows]
    return [head, *labelled]


def test_rewards_are_those_of_their_row(tmp_path):
    """A model may give a video another reward in another pair, as to the authors' script."""
    file, benchmark = tmp_path / "out_pair.csv", benchmarks.create("videogen-rewardbench")
    write_csv(file, *rewards([("1.mp4", "2.mp4", 2, 1), ("1.mp4", "3.mp4", 0, 1)]))
    items, scores = benchmark.read_results(file)
    assert benchmark.metrics(items, scores)["overall_without_ties"] == 0.5
    for rows, message in (
        (rewards([("1.mp4", "2.mp4", np.inf, 1)]), "row 1: 'reward_Overall_A' is 'inf', not a"),
        (rewards([("1.mp4", "2.mp4", 1, 1)], side="path_2"), "no column 'path_B'"),
    ):
        write_csv(file, *rows)
        with pytest.raises((BenchmarkDataError, TableError), match=message):
            benchmark.read_results(file)
