"""Stores are merged completely or not at all, once, and no value is replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.scoring.merging import merge
from t2v_eval.store import Store, text_key

ROOT = Path(__file__).parents[3]


def put(path, *rows, scorer="a"):
    """Store rows (image, text, value, error)."""
    store = Store(path)
    names = {image: f"{image}.png" for image, *_ in rows}
    texts = {text_key(text): text for _, text, *_ in rows}
    cells = [(image, text_key(text), value, error, None) for image, text, value, error in rows]
    store.put_cells(scorer, cells, names, texts)
    return store


def contents(path):
    store = Store(path)
    rows = [(row.scorer, row.image, row.text, row.value, row.error) for row in store.rows()]
    store.close()
    return rows


def call(*arguments, code=0):
    result = CliRunner().invoke(app, ["store", "merge", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_scorers_images_texts_and_embeddings_of_all_are_there_once(tmp_path):
    # Scorers have other numbers in each file.
    put(tmp_path / "1.db", ("i", "x", 1.0, None), scorer="a")
    put(tmp_path / "1.db", ("i", "x", 2.0, None), scorer="b")
    second = put(tmp_path / "2.db", ("j", "x", 4.0, None), scorer="b")
    put(tmp_path / "2.db", ("j", "y", None, "timeout"), scorer="a")
    second.put_embeddings("e", {"image:j": np.float32([[1, 2], [3, 4]])})
    wanted = [
        ("a", "i.png", "x", 1.0, None),
        ("a", "j.png", "y", None, "timeout"),
        ("b", "i.png", "x", 2.0, None),
        ("b", "j.png", "x", 4.0, None),
    ]
    out, files = tmp_path / "out.db", [tmp_path / "1.db", tmp_path / "2.db"]
    added = json.loads(call(out, *files, "--json").stdout)
    assert added == {"scores": 4, "embeddings": 1, "conflicts": []}
    for again in (files, files[::-1], [out, *files]):  # a pattern may match the store itself
        added = json.loads(call(out, *again, "--json").stdout)
        assert added == {"scores": 0, "embeddings": 0, "conflicts": []}
    assert contents(out) == wanted
    rows = Store(out).get_embeddings("e", ["image:j"])
    np.testing.assert_array_equal(rows["image:j"], [[1, 2], [3, 4]])


def test_a_value_replaces_an_error_and_an_error_no_value(tmp_path):
    put(tmp_path / "1.db", ("i", "x", None, "timeout"), ("i", "y", 2.0, None))
    put(tmp_path / "2.db", ("i", "x", 1.0, None), ("i", "y", None, "timeout"))
    call(tmp_path / "1.db", tmp_path / "2.db")
    values = [(text, value, error) for _, _, text, value, error in contents(tmp_path / "1.db")]
    assert values == [("x", 1.0, None), ("y", 2.0, None)]


def test_of_other_values_the_first_stays_and_the_exit_code_says_so(tmp_path):
    put(tmp_path / "1.db", ("i", "x", 0.5, None), ("i", "y", 2.0, None))
    put(tmp_path / "2.db", ("i", "x", 0.75, None), ("i", "y", 2.0, None), ("i", "z", 3.0, None))
    Store(tmp_path / "1.db").put_embeddings("e", {"k": np.float32([1, 0]), "l": np.float32([1, 0])})
    # Of two embeddings, one differs by rounding alone.
    other = {"k": np.float32([1, 1e-4]), "l": np.float32([0, 1])}
    Store(tmp_path / "2.db").put_embeddings("e", other)
    result = call(tmp_path / "1.db", tmp_path / "2.db", code=1)
    assert "1 scores and 0 embeddings were added" in result.stdout
    assert "2 values differ" in result.stderr
    assert "i.png with 'x' is 0.75, and 0.5 stays" in result.stderr
    conflicts = json.loads(call(tmp_path / "1.db", tmp_path / "2.db", "--json", code=1).stdout)[
        "conflicts"
    ]
    assert [(c["scorer"], c["image"], c["value"], c["other"]) for c in conflicts] == [
        ("a", "i.png", 0.5, 0.75),
        ("e", "l", None, None),
    ]
    assert [value for *_, value, _ in contents(tmp_path / "1.db")] == [0.5, 2.0, 3.0]


FAULTS = {
    "no file": (None, "there is no store at"),
    "another program": ("PRAGMA application_id = 7", "of another program"),
    "newer": ("PRAGMA user_version = 99", "store version 99 .* update t2v-eval"),
    "no number": ("UPDATE cell SET value='high'", "score of image i is 'high'"),
    "infinite": ("UPDATE cell SET value=9e999", "score of image i is inf"),
    "no embedding": ("UPDATE embedding SET data=x'00'", "embedding k of shape 1 is '1 bytes'"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_store_is_refused_before_anything_is_merged(tmp_path, change, message):
    put(tmp_path / "good.db", ("j", "x", 1.0, None)).close()
    store = put(tmp_path / "bad.db", ("i", "x", 1.0, None))
    store.put_embeddings("e", {"k": np.float32([1])})
    store.close()
    if change is None:
        (tmp_path / "bad.db").unlink()
    else:
        with sqlite3.connect(tmp_path / "bad.db") as db:
            db.execute(change)
        db.close()
    put(tmp_path / "out.db", ("k", "x", 1.0, None)).close()
    result = call(*(tmp_path / f"{name}.db" for name in ("out", "good", "bad")), code=2)
    assert re.search(message, result.stderr)
    assert [image for _, image, *_ in contents(tmp_path / "out.db")] == ["k.png"]


def test_where_nothing_is_merged_no_store_is_made(tmp_path):
    put(tmp_path / "1.db", ("i", "x", 1.0, None)).close()
    out = tmp_path / "folder" / "out.db"
    assert "there is no store" in call(out, tmp_path / "1.db", tmp_path / "typo.db", code=2).stderr
    assert not out.parent.exists()
    call(out, tmp_path / "1.db")
    assert len(contents(out)) == 1


KILLED = """
import os, signal
from t2v_eval.scoring import merging
from t2v_eval.store import Store

merging._ADD_EMBEDDINGS = "SELECT kill()"
store = Store({out!r})
store._connection().create_function("kill", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
merging.merge(store, [{other!r}])
"""


def test_a_merge_that_is_killed_has_changed_nothing(tmp_path):
    out, other = tmp_path / "out.db", tmp_path / "1.db"
    put(out, ("k", "x", 1.0, None)).close()
    put(other, *[(f"i{n}", "x", 1.0, None) for n in range(50)]).close()
    code = KILLED.format(out=str(out), other=str(other))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [image for _, image, *_ in contents(out)] == ["k.png"]
    assert [merged.scores for merged in merge(Store(out), [other])] == [50]
    assert len(contents(out)) == 51
