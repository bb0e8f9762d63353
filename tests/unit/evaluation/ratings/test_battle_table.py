"""Tables of battles: formats, awkward cells, and rows that are no battles."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.ratings.battle_table import read_battles
from t2v_eval.stats.ratings.battles import Battle

ROWS = [
    {"model_a": "flux", "model_b": "sdxl", "winner": "model_a", "prompt": "a cat", "judge": "ann"},
    {"model_a": "sdxl", "model_b": "flux", "winner": "tie (bothbad)", "prompt": "", "judge": "bo"},
]
EXPECTED = [
    Battle("flux", "sdxl", "model_a", "a cat", "ann"),
    Battle("sdxl", "flux", "tie (bothbad)", "", "bo"),
]


def as_text(separator):
    lines = [separator.join(ROWS[0]), *(separator.join(row.values()) for row in ROWS)]
    return "\r\n".join(lines)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", as_text(",").encode()),
        ("b.csv", as_text(";").encode("utf-16")),
        ("b.tsv", b"\xef\xbb\xbf" + as_text("\t").encode()),
        ("b.jsonl", "\n".join(map(json.dumps, ROWS)).encode()),
        ("b.json", json.dumps(ROWS).encode()),
    ],
)
def test_formats(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_battles(tmp_path / name).battles == EXPECTED


def test_parquet_and_columns_of_other_names(tmp_path):
    path = tmp_path / "arena.parquet"
    rows = [{**row, "question_id": n} for n, row in enumerate(ROWS)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    battles = read_battles(path, {"prompt": "question_id", "judge": "prompt"}).battles
    assert [(b.prompt, b.judge) for b in battles] == [("0", "a cat"), ("1", "")]


def write(tmp_path, *rows, header="model_a,model_b,winner"):
    path = tmp_path / "battles.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_spaces_around_names_are_none_of_them(tmp_path):
    battles = read_battles(write(tmp_path, " a ,b\u00a0, model_a ", "b,a,tie")).battles
    assert battles == [Battle("a", "b", "model_a"), Battle("b", "a", "tie")]


def test_names_that_look_alike_are_named(tmp_path):
    rows = ["GPT-4o,gpt-4o,tie", "caf\u00e9,cafe\u0301,tie", "my model,mymodel,tie"]
    table = read_battles(write(tmp_path, *rows))
    assert len(table.battles) == 3 and len(table.warnings) == 3
    assert "'GPT-4o' and 'gpt-4o'" in table.warnings[0]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ["a,b,tie", "", "a,b,left"],
            None,
            r"battles.csv, row 2: winner 'left' is none of 'model_",
        ),
        (["a,b,Model_A"], None, "row 1: winner 'Model_A'"),
        (["a,b,"], None, "row 1: winner ''"),
        (["a, a,tie"], None, "row 1: 'a' against 'a'"),
        ([",a,tie"], None, "row 1: '' against 'a'"),
        (["a,b"], None, "row 1 .line 2. has 2 values"),
        (["a,b,tie,x"], "model_a,model_b,winner,a_first", "row 1: a_first 'x' is none of"),
        (["a,b"], "model_a,model_b", "no column 'winner'; the columns are 'model_a', 'model_b'"),
        (["a,b,,no answer"], "model_a,model_b,winner,error", "all 1 rows are failed"),
        ([], None, "no rows"),
    ],
)
def test_rows_that_are_no_battles(tmp_path, rows, header, message):
    path = write(tmp_path, *rows, **({"header": header} if header else {}))
    with pytest.raises(TableError, match=message):
        read_battles(path)


def test_lists_and_unknown_fields(tmp_path):
    path = tmp_path / "b.json"
    path.write_text(json.dumps([{"model_a": ["a"], "model_b": "b", "winner": "tie"}]))
    with pytest.raises(TableError, match="row 1: 'model_a' is list"):
        read_battles(path)
    with pytest.raises(InputError, match="no column of battles is called 'winer'"):
        read_battles(path, {"winer": "x"})
    with pytest.raises(TableError, match="no column 'who'; .*`columns=.'judge'"):
        read_battles(path, {"judge": "who"})


def test_failed_comparisons_are_left_out_and_counted(tmp_path):
    rows = ["a,b,model_a,", "a,b,,the service refused", "b,a,tie,"]
    table = read_battles(write(tmp_path, *rows, header="model_a,model_b,winner,error"))
    assert len(table.battles) == 2
    assert table.warnings == ["1 of 3 comparisons failed and are left out"]
