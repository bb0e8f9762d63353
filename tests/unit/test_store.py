"""The store: what is committed stays, across threads, processes and SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import Forked
from helpers.toy import ToyEmbedding, ToyPair, draw_image

from t2v_eval.cli.options import default_store
from t2v_eval.errors import StoreError
from t2v_eval.scoring.plan import Block
from t2v_eval.store import Store, text_key


def put(store, scorer, rows):
    names = {image: f"{image}.png" for image, _, _, _ in rows}
    store.put_cells(
        scorer,
        [(image, text_key(text), value, error, None) for image, text, value, error in rows],
        names,
        {text_key(text): text for _, text, _, _ in rows},
    )


def test_cells_come_back_exactly_and_only_those_asked_for(tmp_path):
    store = Store(tmp_path / "s.db")
    value = float(np.float32(1 / 3))
    put(store, "a", [("i", "x", value, None), ("i", "y", 2.0, None), ("j", "x", None, "broken")])
    keys = [(i, text_key(t)) for i in "ij" for t in "xyz"]
    assert store.get_cells("a", keys) == {("i", text_key("x")): value, ("i", text_key("y")): 2.0}
    assert store.get_cells("b", keys) == {}


def test_an_answer_stays_and_an_error_is_replaced(tmp_path):
    store = Store(tmp_path / "s.db")
    put(store, "a", [("i", "x", 1.0, None), ("i", "y", None, "timeout")])
    put(store, "a", [("i", "x", 2.0, None), ("i", "y", 3.0, None)])
    put(store, "a", [("i", "x", None, "late failure")])
    rows = [(row.text, row.value, row.error) for row in store.rows()]
    assert rows == [("x", 1.0, None), ("y", 3.0, None)]


def test_embeddings_keep_shape_and_bits(tmp_path):
    store = Store(tmp_path / "s.db")
    rows = {"one": np.random.RandomState(0).randn(3, 4).astype(np.float32)}
    rows |= {f"k{n}": np.float32([n]) for n in range(1200)}
    store.put_embeddings("encoder", rows)
    result = Store(tmp_path / "s.db").get_embeddings("encoder", [*rows, "missing"])
    assert result.keys() == rows.keys()
    np.testing.assert_array_equal(result["one"], rows["one"])


def test_stats_export_and_prune(tmp_path):
    store = Store(tmp_path / "s.db")
    put(store, "a model", [("i", "x", 1.0, None), ("i", "y", None, "bad")])
    put(store, "b model", [("i", "x", 5.0, None)])
    store.put_embeddings("a", {"k": np.float32([1])})
    assert [(s.scorer, s.cells, s.failed, s.embeddings) for s in store.stats()] == [
        ("a", 0, 0, 1),
        ("a model", 2, 1, 0),
        ("b model", 1, 0, 0),
    ]
    assert [row.value for row in store.rows("b*")] == [5.0]
    assert [row.image for row in store.rows("b*")] == ["i.png"]
    assert store.prune("*", failed_only=True) == 1
    assert store.prune("a*") == 2
    assert [s.scorer for s in store.stats()] == ["b model"]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 9, b"x"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a t2v-eval store"):
        Store(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert path.read_bytes() == before


def test_a_damaged_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "s.db"
    store = Store(path)
    store.put_embeddings("e", {f"k{n}": np.zeros(500, np.float32) for n in range(200)})
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:40960] = b"\xff" * (40960 - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        Store(path).stats()
    assert path.read_bytes() == content


def test_details_are_kept_with_the_answer(tmp_path):
    store = Store(tmp_path / "s.db")
    names, texts = {"i": "i.png"}, {text_key("x"): "x"}
    store.put_cells("a", [("i", text_key("x"), None, "no answer", None)], names, texts)
    store.put_cells("a", [("i", text_key("x"), 0.5, None, '{"mass": 0.9}')], names, texts)
    store.put_cells("a", [("i", text_key("x"), 0.1, None, '{"mass": 0.1}')], names, texts)
    assert [(row.value, row.detail) for row in store.rows()] == [(0.5, '{"mass": 0.9}')]


def refused(*_, **__):
    raise PermissionError("this file system has no hard links")


@pytest.mark.parametrize("empty", [False, True])
def test_a_store_needs_no_hard_links(tmp_path, monkeypatch, empty):
    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "s.db"
    if empty:
        path.touch()
    put(Store(path), "a", [("i", "x", 1.0, None)])
    assert Store(path).stats()[0].cells == 1


def test_a_store_that_another_makes_meanwhile_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "s.db"
    path.touch()
    before, create = path.stat().st_ino, Store._create

    def late(store):
        with monkeypatch.context() as patched:
            patched.setattr(Store, "_create", create)
            put(Store(path), "first", [("i", "x", 1.0, None)])
        create(store)

    monkeypatch.setattr(Store, "_create", late)
    put(Store(path), "second", [("i", "x", 2.0, None)])
    assert [s.scorer for s in Store(path).stats()] == ["first", "second"]
    assert path.stat().st_ino == before, "what may be another's by now is never taken away"


def test_a_store_of_another_version_is_refused(tmp_path):
    path = tmp_path / "s.db"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        Store(path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="`store=None`"):
        Store(tmp_path / "file" / "s.db")


def test_threads_write_together(tmp_path):
    store = Store(tmp_path / "s.db")

    def work(n):
        for k in range(10):
            put(store, "a", [(f"i{n}", f"t{k}", float(n * 100 + k), None)])
        store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.stats()[0].cells == 60


WORKER = """
import sys
from helpers.toy import ToyPair, draw_image
class Slow(ToyPair):
    version = "1"
    def score(self, states, texts):
        if {stop} and sum(self.pair_calls) >= {stop}:
            print("ready", flush=True)
            sys.stdin.read()
        return super().score(states, texts)
scorer = Slow(device="cpu", store={path!r}, batch_size=4)
scorer([draw_image(n) for n in range(8)], [f"text {{n}}" for n in range(6)])
print("done", flush=True)
"""


def worker(path: Path, stop: int) -> Forked:
    return Forked(WORKER.format(path=str(path), stop=stop))


class Slow(ToyPair):
    """Named as the worker's scorer, so that both have one id."""

    version = "1"


def test_after_sigkill_only_what_was_not_committed_is_computed(tmp_path):
    path = tmp_path / "s.db"
    process = worker(path, stop=20)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    blocks = [Block([draw_image(n) for n in range(8)], [f"text {n}" for n in range(6)])]
    scorer = Slow(device="cpu", store=path, batch_size=4)
    outcome = scorer.evaluate_blocks(blocks)
    assert outcome.counts.reused == 20
    assert outcome.counts.computed == 28
    whole = Slow(device="cpu").run(blocks)[0]
    torch.testing.assert_close(torch.from_numpy(outcome.scores[0]), whole, atol=1e-7, rtol=0)


class Blind(ToyEmbedding):
    """Reads no text, so that the embeddings of texts hold nothing."""

    uses_text = False
    version = "1"

    def encode_texts(self, texts):
        return torch.empty(len(texts), 0, dtype=torch.float32)

    def similarity(self, images, texts):
        return images.sum(1, keepdim=True).expand(-1, len(texts))


def test_an_image_that_is_added_is_scored_where_texts_play_no_part(tmp_path):
    scorer = Blind(device="cpu", store=tmp_path / "s.db")
    first, both = scorer([draw_image(0)], ["a"]), scorer([draw_image(0), draw_image(1)], ["a"])
    assert torch.equal(both[:1], first) and both[0] != both[1]


def test_processes_share_a_new_store(tmp_path):
    path = tmp_path / "s.db"
    workers = [worker(path, stop=0) for _ in range(2)]
    for process in workers:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out == "done\n"
    assert [s.cells for s in Store(path).stats()] == [48]
    assert [p.name for p in tmp_path.iterdir() if "s.db." in p.name and "-" not in p.name] == []


def test_the_cache_folder_is_the_sessions_own(tmp_path_factory):
    code = "from t2v_eval.cli.options import default_store; print(default_store())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for path in (default_store(), Path(child.stdout.strip())):
        assert path.is_relative_to(tmp_path_factory.getbasetemp())


def test_of_a_commit_that_fails_nothing_is_stored(tmp_path):
    store = Store(tmp_path / "s.db")
    rows = [("i", "t", 0.5, None, None), ("i", "u", object(), None, None)]
    with pytest.raises(StoreError):
        store.put_cells("a", rows, {"i": "i"}, {"t": "t", "u": "u"})
    assert Store(tmp_path / "s.db").stats() == [] and store.get_cells("a", [("i", "t")]) == {}
    store.put_cells("a", [("i", "t", 0.25, None, None)], {"i": "i"}, {"t": "t"})
    assert store.get_cells("a", [("i", "t")]) == {("i", "t"): 0.25}


def test_scorers_have_scores_of_their_own(tmp_path):
    store, cell = Store(tmp_path / "s.db"), ("i", "t")
    for scorer, value in (("a", 0.5), ("b", 0.25)):
        detail = json.dumps({"scorer": scorer})
        store.put_cells(scorer, [(*cell, value, None, detail)], {"i": "i"}, {"t": "t"})
        store.put_embeddings(scorer, {"i": np.full(2, value, np.float32)})
    store.put_cells("c", [("i", "u", 1.0, None, None)], {"i": "i"}, {"u": "u"})
    for scorer, value in (("a", 0.5), ("b", 0.25)):
        assert store.get_cells(scorer, [cell]) == {cell: value}
        assert json.loads(store.get_details(scorer, [cell])[cell]) == {"scorer": scorer}
        assert store.get_embeddings(scorer, ["i"])["i"].tolist() == [value, value]
    for scorer in ("c", "d"):
        assert not store.get_cells(scorer, [cell]) and not store.get_embeddings(scorer, ["i"])
