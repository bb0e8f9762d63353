"""A store that was changed, damaged or has no room: an error that says so, never a score."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, draw_image, expected

from t2v_eval.errors import StoreError
from t2v_eval.scoring.results import ScoreChunk, split_non_finite
from t2v_eval.store import APPLICATION_ID, Store, text_key

HERE = Path(__file__).parents[1]
KEY = ("i", text_key("x"))


def filled(path: Path) -> Store:
    """One score, one failure, one embedding."""
    store = Store(path)
    cells = [(*KEY, 0.5, None, None), ("j", KEY[1], None, "no answer", None)]
    store.put_cells("a", cells, {"i": "i.png", "j": "j.png"}, {KEY[1]: "x"})
    store.put_embeddings("a", {"image:i": np.float32([1, 2, 3])})
    store.close()
    return store


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("value", ["'high'", "x'00ff'", "9e999", "-9e999", "1e300", "''"])
def test_a_value_that_is_no_finite_number_is_never_a_score(tmp_path, value):
    path = tmp_path / "s.db"
    filled(path)
    change(path, f"UPDATE cell SET value={value} WHERE value IS NOT NULL")
    with pytest.raises(StoreError, match=r"s\.db: the score of .* not a finite number.*prune"):
        Store(path).get_cells("a", [KEY])
    with pytest.raises(StoreError, match=r"s\.db: the score of .* not a finite number"):
        list(Store(path).rows())
    assert Store(path).prune("a") == 3, "and the remedy works"


def test_no_value_and_no_reason_is_no_score(tmp_path):
    path = tmp_path / "s.db"
    filled(path)
    change(path, "UPDATE cell SET value=NULL")
    assert Store(path).get_cells("a", [KEY]) == {}


@pytest.mark.parametrize("detail", ["'{oops'", "x'ff'", "3.5", "''"])
def test_a_detail_that_is_no_json(tmp_path, detail):
    path = tmp_path / "s.db"
    filled(path)
    change(path, f"UPDATE cell SET detail={detail}")
    if detail == "3.5":  # which SQLite makes the text that is JSON
        assert Store(path).get_details("a", [KEY]) == {KEY: "3.5"}
        return
    with pytest.raises(StoreError, match=r"s\.db: the detail of .* not JSON"):
        Store(path).get_details("a", [KEY])


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ("'3,x'", "data"),
        ("'-3'", "data"),
        ("'-1,-3'", "data"),
        ("'4'", "data"),
        ("'1,2'", "data"),
        ("'99999999999999999999'", "data"),
        ("'999999999,999999999'", "data"),
        ("'0'", "x''"),
        ("''", "data"),
        ("x'33'", "data"),
        ("'³'", "data"),
        ("'3'", "x'00'"),
        ("'3'", "'text'"),
        ("'3'", "7"),
    ],
)
def test_an_embedding_that_is_none(tmp_path, shape, data):
    path = tmp_path / "s.db"
    filled(path)
    change(path, f"UPDATE embedding SET shape={shape}, data={data}")
    with pytest.raises(StoreError, match=r"s\.db: .*embedding.* not (whole numbers|of that size)"):
        Store(path).get_embeddings("a", ["image:i"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_is_made_anew(tmp_path, value):
    path = tmp_path / "s.db"
    images = [draw_image(1), draw_image(2)]
    ToyEmbedding(device="cpu", store=path)(images, "a cat")
    blob = np.full(12, value, np.float32).tobytes().hex()
    change(path, f"UPDATE embedding SET data=x'{blob}'", "DELETE FROM cell")
    scores = ToyEmbedding(device="cpu", store=path)(images, "a cat")
    true_scores = [[expected(image, "a cat")] for image in images]
    np.testing.assert_allclose(scores, true_scores, atol=1e-6)
    store = Store(tmp_path / "t.db")
    store.put_embeddings("a", {"k": np.float32([value])})
    assert store.get_embeddings("a", ["k"]) == {}


@pytest.mark.parametrize("which", ["image:*", "text:*", "some"])
def test_embeddings_of_another_size_are_not_scored_with(tmp_path, which):
    path = tmp_path / "s.db"
    images, texts = [draw_image(1), draw_image(2)], ["a cat", "a dog"]
    ToyEmbedding(device="cpu", store=path)(images, texts)
    where = f"key GLOB '{which}'"
    if which == "some":
        where = "key IN (SELECT key FROM embedding WHERE key GLOB 'text:*' LIMIT 1)"
    change(path, f"UPDATE embedding SET shape='5', data=zeroblob(20) WHERE {where}")
    change(path, "DELETE FROM cell")
    with pytest.raises(StoreError, match=r"s\.db.*(go together|the same for all)"):
        ToyEmbedding(device="cpu", store=path)(images, [*texts, "a fish"])


def test_embeddings_with_a_side_too_many_are_not_scored_with(tmp_path):
    path = tmp_path / "s.db"
    images, texts = [draw_image(1), draw_image(2)], ["a cat", "a dog"]
    ToyEmbedding(device="cpu", store=path)(images, texts)
    change(path, "UPDATE embedding SET shape='1,' || shape", "DELETE FROM cell")
    with pytest.raises(StoreError, match=r"s\.db.*(go together|the same for all)"):
        ToyEmbedding(device="cpu", store=path)(images, texts)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE cell",
        "DROP TABLE embedding",
        "ALTER TABLE cell DROP COLUMN detail",
        "ALTER TABLE text RENAME COLUMN content TO words",
        "CREATE TRIGGER t AFTER INSERT ON cell BEGIN UPDATE cell SET value=1; END",
        "CREATE VIEW v AS SELECT * FROM cell",
        "CREATE UNIQUE INDEX u ON cell (scorer, image, text, value)",
    ],
)
def test_other_tables_than_ours_are_refused(tmp_path, statement):
    path = tmp_path / "s.db"
    filled(path)
    change(path, statement)
    with pytest.raises(StoreError, match=r"s\.db lacks the tables of a t2v-eval store"):
        Store(path)


def test_an_index_of_ones_own_is_no_fault(tmp_path):
    path = tmp_path / "s.db"
    filled(path)
    change(path, "CREATE INDEX mine ON cell (value)", "CREATE TABLE notes (said TEXT)")
    assert Store(path).get_cells("a", [KEY]) == {KEY: 0.5}


def test_names_that_are_missing(tmp_path):
    path = tmp_path / "s.db"
    filled(path)
    change(path, "DELETE FROM image WHERE key='i'")
    with pytest.raises(StoreError, match=r"s\.db: the image of a score is None, not text"):
        list(Store(path).rows())
    change(path, "UPDATE scorer SET name=x'ff'")
    with pytest.raises(StoreError, match=r"s\.db: the id of a scorer"):
        Store(path).stats()


def test_a_header_alone_is_no_store(tmp_path):
    path = tmp_path / "s.db"
    filled(path)
    content = path.read_bytes()
    for size in (1, 16, 100, 512, 4096):
        path.write_bytes(content[:size])
        with pytest.raises(StoreError, match=r"s\.db.*(damaged|not a t2v-eval store)"):
            Store(path)
        assert path.read_bytes() == content[:size]
    header = bytearray(4096)
    header[:16] = b"SQLite format 3\0"
    header[68:72] = APPLICATION_ID.to_bytes(4, "big")
    path.write_bytes(header)
    with pytest.raises(StoreError, match=r"s\.db has store version 0"):
        Store(path)


def test_every_byte_that_is_lost_gives_an_error_or_the_right_score(tmp_path):
    path = tmp_path / "s.db"
    filled(path)
    whole = path.read_bytes()
    rows = list(Store(path).rows())
    random = np.random.RandomState(0)
    for _ in range(150):
        content = bytearray(whole)
        at = random.randint(100, len(whole) - 64)
        content[at : at + 64] = random.bytes(64)
        for left in ("s.db-wal", "s.db-shm"):
            (tmp_path / left).unlink(missing_ok=True)
        path.write_bytes(content)
        try:
            store = Store(path)
            values = store.get_cells("a", [KEY, ("j", KEY[1])])
            store.get_embeddings("a", ["image:i"])
            assert len(list(store.rows())) == len(rows)
        except StoreError as error:
            assert "s.db" in str(error)
        else:
            assert all(np.isfinite(value) for value in values.values())
        finally:
            store.close()


def test_what_is_no_file(tmp_path):
    with pytest.raises(StoreError, match=r"is a folder; choose a file with `store=`"):
        Store(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match=r"pipe is not a regular file"):
        Store(tmp_path / "pipe")
    with pytest.raises(StoreError, match=r"/dev/full is not a regular file"):
        Store("/dev/full")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match=r"loop.*`store=`"):
        Store(tmp_path / "loop")
    with pytest.raises(StoreError, match=r"cannot be the name"):
        Store("a\0b")
    with pytest.raises(StoreError, match=r"`store=None`"):
        Store(tmp_path / ("x" * 300))


def test_a_link_to_a_store_is_the_store(tmp_path):
    filled(tmp_path / "s.db")
    (tmp_path / "link").symlink_to("s.db")
    (tmp_path / "new").symlink_to("made.db")
    assert Store(tmp_path / "link").get_cells("a", [KEY]) == {KEY: 0.5}
    filled(tmp_path / "new")
    assert Store(tmp_path / "made.db").get_cells("a", [KEY]) == {KEY: 0.5}


def test_a_log_that_another_left_is_not_read(tmp_path):
    filled(tmp_path / "s.db")
    (tmp_path / "s.db-wal").write_bytes(b"\xff" * 5000)
    assert Store(tmp_path / "s.db").get_cells("a", [KEY]) == {KEY: 0.5}
    (tmp_path / "t.db-wal").write_bytes(b"\xff" * 5000)
    assert filled(tmp_path / "t.db").get_cells("a", [KEY]) == {KEY: 0.5}


def limited(store: Store) -> Store:
    """A store that has as many pages as a full disk would leave it."""
    pages = store._connection().execute("PRAGMA page_count").fetchone()[0]
    store._connection().execute(f"PRAGMA max_page_count={pages + 2}")
    return store


def test_a_full_disk_is_told_as_one_and_what_is_stored_stays(tmp_path):
    path = tmp_path / "s.db"
    scorer = ToyPair(device="cpu", store=limited(Store(path)), batch_size=2)
    texts = [f"{n} {'long ' * 300}" for n in range(40)]
    message = r"s\.db.*disk is full.*stored before are safe.*same command again.*`store=`"
    with pytest.raises(StoreError, match=message) as caught:
        scorer(draw_image(1), texts)
    assert "damaged" not in str(caught.value)
    stored = Store(path).stats()[0].cells
    assert 0 < stored < 40
    # With room, the same run goes on from there, on the connection that failed too.
    for again in (scorer, ToyPair(device="cpu", store=path)):
        scores = again(draw_image(1), texts)
        whole = ToyPair(device="cpu")(draw_image(1), texts)
        torch.testing.assert_close(scores, whole, atol=1e-6, rtol=0)
    assert Store(path).stats()[0].cells == 40


LIMITED = """
import resource, signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from helpers.toy import ToyPair, draw_image
from t2v_eval.errors import StoreError
scorer = ToyPair(device="cpu", store={path!r}, batch_size=2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    scorer(draw_image(1), [f"{{n}} {{'long ' * 300}}" for n in range(200)])
except StoreError as error:
    print(error)
"""


def test_a_limit_for_the_size_of_files_is_no_damage(tmp_path):
    path = tmp_path / "s.db"
    code = LIMITED.format(root=str(HERE.parent), here=str(HERE), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "s.db" in done.stdout and "may be full" in done.stdout, done.stdout + done.stderr
    assert "damaged" not in done.stdout
    assert Store(path).stats()[0].cells > 0


@pytest.fixture
def small_disk(tmp_path):
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only the superuser mounts a disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full(small_disk):
    scorer = ToyPair(device="cpu", store=small_disk / "s.db", batch_size=2)
    with pytest.raises(StoreError, match="disk.*full") as caught:
        scorer(draw_image(1), [f"{n} {'long ' * 300}" for n in range(400)])
    assert "damaged" not in str(caught.value)
    with pytest.raises(StoreError, match="full|room"), (small_disk / "rest").open("wb") as rest:
        try:
            rest.write(bytes(300_000))
            rest.flush()
        except OSError:
            Store(small_disk / "new.db")
    assert scorer.store.stats()[0].cells > 0


def test_places_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    filled(tmp_path / "s.db")
    (tmp_path / "s.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError, match=r"(read-only|writable).*`store=`"):
            filled(tmp_path / "s.db")
        with pytest.raises(StoreError, match=r"`store=None`"):
            Store(tmp_path / "new.db")
    finally:
        tmp_path.chmod(0o755)


def test_a_store_opened_for_reading_alone_says_so(tmp_path):
    store = filled(tmp_path / "s.db")
    store._connection().execute("PRAGMA query_only=1")
    with pytest.raises(
        StoreError, match=r"read-only: allow writing, or choose another path with `store=`"
    ):
        store.put_embeddings("a", {"k": np.float32([1])})


def test_a_score_too_large_for_what_is_kept_is_none():
    parts = list(
        split_non_finite(ScoreChunk(np.arange(2), torch.tensor([1.0, 1e300], dtype=torch.float64)))
    )
    assert [(part.positions.tolist(), part.error is None) for part in parts] == [
        ([0], True),
        ([1], False),
    ]
