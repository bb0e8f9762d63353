"""Tables come back as they were written, and say where they are wrong."""

import json
import math

import pyarrow
import pytest
from pyarrow import parquet

from t2v_eval.errors import OutputError, TableError
from t2v_eval.inputs.tables import read_columns, read_table, to_csv, write_table
from t2v_eval.utils.files import check_file, check_folder, replacing, write_text

ROWS = [
    {"image": "a.png", "text": 'two "dogs", one cat\non a mat', "score": 0.25, "error": ""},
    {"image": "b c.png", "text": "naïve 日本 🐈", "score": math.nan, "error": "no such file"},
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".CSV"])
def test_rows_come_back(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write_table(path, ROWS)
    rows = read_table(path, ["image", "text"])
    assert [(r["image"], r["text"], r["error"]) for r in rows] == [
        (r["image"], r["text"], r["error"]) for r in ROWS
    ]
    assert [r["score"] for r in rows] == (["0.25", ""] if "sv" in suffix.lower() else [0.25, None])
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left beside it"


def test_byte_order_mark_blank_lines_and_long_fields(tmp_path):
    long = "x" * 200_000
    (tmp_path / "t.csv").write_bytes(f"\ufeffimage,text\r\na,{long}\r\n\r\nb,c\r\n".encode())
    assert read_table(tmp_path / "t.csv", ["image"]) == [
        {"image": "a", "text": long},
        {"image": "b", "text": "c"},
    ]
    (tmp_path / "t.jsonl").write_text('\ufeff{"image": "a"}\n\n{"image": "b"}\n', "utf-8")
    assert read_table(tmp_path / "t.jsonl") == [{"image": "a"}, {"image": "b"}]


def table(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, "utf-8")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(content), path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "picture,text\na,b\n", r"no column 'image'; the columns are 'picture', 'text'"),
        ("t.jsonl", '{"text": "b"}\n', r"row 1: there is no column 'image'; .* 'text'"),
        ("t.parquet", [{"text": "b"}], r"row 1: there is no column 'image'"),
        ("t.csv", "image,text\na,b\nc\n", r"row 2 \(line 3\) has 1 values .* 2 columns"),
        ("t.csv", "image,text\na,b,c\n", r"row 1 \(line 2\) has 3 values"),
        ("t.csv", 'image,text\na,b\nc,"d\n', r"row 2 .*unexpected end of data"),
        ("t.csv", "image,image\na,b\n", "the column 'image' occurs 2 times"),
        ("t.csv", "image,text\na,b\n,c\n", "row 2: 'image' is empty"),
        ("t.parquet", [{"image": None, "text": "b"}], "row 1: 'image' is empty"),
        ("t.jsonl", '{"image": "a", "text": "b"}\n{oops\n', r"row 2 \(line 2\) is not JSON"),
        ("t.jsonl", "[1, 2]\n", r"row 1 \(line 1\) is list, not a JSON object"),
        ("t.csv", "image,text\n", "has no rows"),
        ("t.csv", "", "has no rows"),
        ("t.csv", b"image,text\n\xff\xfe,b\n", "is not UTF-8"),
        ("t.parquet", b"not parquet", "is not a Parquet file"),
        ("t.json", "3", "holds int, not a list of objects"),
        ("t.json", '[{"image": "a", "text": "b"}, 3]', "row 2 is int, not a JSON object"),
        ("t.json", '{"x": 3}', "'x' is int, not a JSON object"),
        ("t.json", "{", "t.json is not JSON"),
        ("t.json", '[{"image": "a", "image": "b"}]', "the key 'image' occurs twice"),
        ("t.jsonl", '{"text": "a", "text": "b"}', r"row 1 \(line 1\).*the key 'text' occurs twice"),
        ("t.csv", b"\xff\xfea", "is not UTF-16 text in line 1, at byte 2"),
        ("t.xlsx", "", r"ends in .csv, .tsv, .jsonl, .json or .parquet, not '.xlsx'"),
        ("t", "", r"ends in .csv, .tsv, .jsonl, .json or .parquet, and this name has no ending"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, message):
    with pytest.raises(TableError, match=message) as caught:
        read_table(table(tmp_path, name, content), ["image", "text"])
    assert name in str(caught.value)


PLAIN = [{"image": "a", "text": "b; c"}, {"image": "d", "text": 'she says "e"'}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'image;text\na;"b; c"\nd;"she says ""e"""\n'),
        ("t.csv", 'image\ttext\na\tb; c\nd\tshe says "e"\n'),
        ("t.tsv", 'image\ttext\na\t"b; c"\nd\t"she says ""e"""\n'),
        ("t.csv", 'image|text\na|b; c\nd|"she says ""e"""\n'),
        ("t.csv", ' image , text,,\na,b; c,,\nd,"she says ""e""",,\n'),
        ("t.csv", 'image,text\na,b; c\nd,"she says ""e"""\n'.encode("utf-16")),
        ("t.csv", 'image,text\ra,b; c\rd,"she says ""e"""\r'),
        ("t.json", json.dumps(PLAIN, indent=1)),
    ],
    ids=["semicolons", "tabs", "tsv", "bars", "commas at the end", "utf-16", "old mac", "json"],
)
def test_tables_of_others(tmp_path, name, content):
    assert read_table(table(tmp_path, name, content), ["image", "text"]) == PLAIN


def test_between_tabs_a_quotation_mark_may_stand_alone(tmp_path):
    path = table(tmp_path, "t.tsv", 'image\ttext\na\t"b" or c\nd\t"e\n')
    assert [row["text"] for row in read_table(path)] == ['"b" or c', '"e']


def test_a_tsv_is_separated_by_tabs_whatever_its_header_holds(tmp_path):
    path = table(tmp_path, "t.tsv", "image, or file\ttext\na.png\tone, two\n")
    assert read_table(path) == [{"image, or file": "a.png", "text": "one, two"}]
    path = table(tmp_path, "u.tsv", "image,text\na.png,one\n")
    assert read_table(path) == [{"image": "a.png", "text": "one"}], "by its first line, then"


def test_the_columns_of_a_table_are_those_of_its_header(tmp_path):
    assert read_columns(table(tmp_path, "t.csv", "image,text,human\na.png\n")) == [
        "image", "text", "human"
    ]  # fmt: skip


def test_objects_of_a_json_object_keep_their_names(tmp_path):
    path = table(tmp_path, "t.json", '{"x": {"image": "a"}, "y": {"id": 3, "image": "b"}}')
    assert read_table(path) == [{"id": "x", "image": "a"}, {"id": 3, "image": "b"}]


def test_a_column_of_parquet_that_occurs_twice(tmp_path):
    columns = [pyarrow.array([1])] * 2
    parquet.write_table(pyarrow.table(columns, names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="the column 'a' occurs 2 times"):
        read_table(tmp_path / "t.parquet")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(TableError, match="nowhere.csv: no such file"):
        read_table(tmp_path / "nowhere.csv")


def test_csv_text_is_what_the_file_would_be(tmp_path):
    write_table(tmp_path / "t.csv", [{"a": 1, "b": "x,y"}])
    assert to_csv([{"a": math.nan, "b": None}]) == "a,b\n,\n"
    assert to_csv([{"a": 1, "b": "x,y"}]) == (tmp_path / "t.csv").read_text() == 'a,b\n1,"x,y"\n'


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "t.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as stream:
        stream.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t.txt"]


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="nothing can be written"):
        check_folder(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="is a folder"):
        check_file(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(tmp_path / "nowhere" / "t.txt", "x")
    with pytest.raises(OutputError, match="nothing can be written"):
        check_folder("/proc/t2v-eval")
    assert check_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


SHEET = [{"image": "a.png", "text": "a cat"}, {"image": "b.png", "text": "a dog"}]


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\nimage;text\na.png;a cat\nb.png;a dog\n",
        "SEP=|\r\nimage|text\r\na.png|a cat\r\nb.png|a dog\r\n",
        "\ufeff\ufeffimage,\u200btext \na.png,a cat\nb.png,a dog\n",
        "\u00a0image\u00a0,text\na.png,a cat\nb.png,a dog\n",
        "image,text\na.png,a cat\n,\nb.png,a dog\n \n,\n,\n\n",
        "image,text,\na.png,a cat,\nb.png,a dog,\n,,\n",
    ],
)
def test_what_spreadsheets_leave_is_no_data(tmp_path, content):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    assert read_table(tmp_path / "t.csv") == SHEET


def test_lines_are_counted_from_the_top_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("sep=;\nimage;text\na;b\n\n;\nc\n")
    with pytest.raises(TableError, match=r"row 2 \(line 6\) has 1 values"):
        read_table(tmp_path / "t.csv")
