"""The store: scores and embeddings of earlier runs in one SQLite file.

Each cell is a row and each embedding a blob, keyed by scorer id, image content and text. A `put` is
committed when it returns, so that a killed run loses at most the batch in flight. Several processes
may share the file (WAL). A file that is not a store is never written to. Values are checked when
read: one that no scorer can have written is an error, never a score.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import sqlite3
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import StoreError
from t2v_eval.utils.arguments import check_path

APPLICATION_ID = 0x54325645  # "T2VE" in the header of the file
VERSION = 2
_CHUNK = 500
_PATIENCE = 60.0  # seconds for which a process waits for another
_LARGEST = float(np.finfo(np.float32).max)

_SCHEMA = """
CREATE TABLE scorer (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE image (key TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE text (key TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE cell (
    scorer INTEGER NOT NULL REFERENCES scorer, image TEXT NOT NULL, text TEXT NOT NULL,
    value REAL, error TEXT, detail TEXT,
    PRIMARY KEY (scorer, image, text)) WITHOUT ROWID;
CREATE TABLE embedding (
    scorer INTEGER NOT NULL REFERENCES scorer, key TEXT NOT NULL,
    shape TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (scorer, key));
"""


class Row(NamedTuple):
    """A cell as it is stored; `value` is None where `error` says why it is missing.

    `detail` is what the model returned beside it, as JSON.

    >>> Row("mine v1", "cat.png", "a cat", value=0.9, error=None).value
    0.9
    """

    scorer: str
    image: str
    text: str
    value: float | None
    error: str | None
    detail: str | None = None


class StoredCell(NamedTuple):
    """A score as it is stored, with the key of its image.

    `name` is what the image was called when it was scored.

    >>> StoredCell("1f0c22ab", "image (cat.png)", "a cat", value=0.9).value
    0.9
    """

    image: str
    name: str
    text: str
    value: float
    detail: str | None = None


class Stats(NamedTuple):
    """Counts of a scorer's cells and embeddings in the store.

    >>> Stats("mine v1", cells=10, failed=1, embeddings=0).failed
    1
    """

    scorer: str
    cells: int
    failed: int
    embeddings: int


def text_key(text: str) -> str:
    """Return the key of a text: a hash of its characters, without normalisation.

    >>> text_key("a cat") == text_key("A cat"), len(text_key("a cat"))
    (False, 32)
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Store:
    """A score store at `path`, created if it does not exist.

    Args:
        path: the file; ``~`` is the home folder.

    Raises:
        InputError: it is no path.
        StoreError: the folder cannot be written, the disk is full, or the file is locked, damaged
            or of another program.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(Path(folder) / "scores.sqlite")
    ...     rows = [("cat", text_key("a cat"), 0.5, None, None)]
    ...     store.put_cells("mine v1", rows, {"cat": "cat.png"}, {text_key("a cat"): "a cat"})
    ...     stored = list(store.rows())
    ...     store.close()
    >>> stored[0].image, stored[0].text, stored[0].value
    ('cat.png', 'a cat', 0.5)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_path("store", path)
        self._local = threading.local()
        if "\0" in str(self.path):
            raise StoreError(f"{str(self.path)!r} cannot be the name of a store")
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
                what = "a folder" if self.path.is_dir() else "not a regular file"
                raise StoreError(f"{self.path} is {what}; choose a file with `store=`")
            if not self.path.exists() or self.path.stat().st_size == 0:
                self._create()
            self._check()

    def _create(self) -> None:
        """Create the tables in a new or empty file, in one transaction.

        SQLite lets one process do so at a time, and no other process sees part of the tables. No
        file is linked or removed: some file systems have no links, and another process may have
        created the file.
        """
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")

    def _check(self) -> None:
        """Refuse a file of another program before SQLite opens it and may write to it."""
        with self.path.open("rb") as stream:
            header = stream.read(100)
        hint = "; it was left as it is. Choose another path with `store=`, or move the file away."
        if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
            raise StoreError(f"{self.path} is not a t2v-eval store, or is damaged{hint}")
        application, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} is a SQLite file of another program{hint}")
        if version != VERSION:
            update = " Or update t2v-eval, which is older." if version > VERSION else ""
            raise StoreError(
                f"{self.path} has store version {version} and this t2v-eval reads {VERSION}{hint}"
                f"{update}"
            )
        db = self._connection()
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StoreError(f"{self.path} is damaged ({problem}){hint}")
        kinds = {
            " ".join(str(sql).split()): kind
            for kind, sql in db.execute("SELECT type, sql FROM sqlite_master WHERE sql IS NOT NULL")
        }
        tables = {" ".join(statement.split()) for statement in _SCHEMA.split(";")} - {""}
        # Other tables and indexes change nothing, but triggers, views and unique indexes would
        # change what is stored.
        acting = {"trigger", "view"} & set(kinds.values()) or any(
            kind == "index" and "unique" in sql.casefold() for sql, kind in kinds.items()
        )
        if not tables <= kinds.keys() or acting:
            raise StoreError(
                f"{self.path} lacks the tables of a t2v-eval store, or has triggers or views{hint}"
            )

    def get_cells(
        self, scorer: str, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], float]:
        """Return the stored values by (image key, text key), without failed cells.

        Raises:
            StoreError: a value is not a finite number.
        """
        values = self._read("value", scorer, keys)
        for key, value in values.items():
            self._check_value(value, f"the score of image {key[0]} and text {key[1]}", scorer)
        return values

    def get_details(
        self, scorer: str, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], str]:
        """Return what the model returned beside the scores, as JSON, by (image key, text key)."""
        details = self._read("detail", scorer, keys)
        for key, detail in details.items():
            try:
                json.loads(detail if isinstance(detail, str) else "")
            except (ValueError, RecursionError):
                what = f"the detail of image {key[0]} and text {key[1]}"
                raise self._bad(what, detail, "JSON", scorer) from None
        return details

    def _check_value(self, value: Any, what: str, scorer: str) -> None:
        if not isinstance(value, float) or not abs(value) <= _LARGEST:
            raise self._bad(what, value, "a finite number", scorer)

    def _bad(self, what: str, value: Any, expected: str, scorer: str) -> StoreError:
        text = repr(value)
        return StoreError(
            f"the store {self.path}: {what} is {text[:60]}{'...' * (len(text) > 60)}, not "
            f"{expected}, so the file was changed by another program or is damaged. Delete the "
            f"scorer's rows (`t2v-eval store prune '{scorer.partition(' ')[0]}'`), move the file "
            "away, or choose another path with `store=`"
        )

    def _read(self, column: str, scorer: str, keys: Iterable[tuple[str, str]]) -> dict[Any, Any]:
        values: dict[Any, Any] = {}
        with self._errors():
            db, number = self._connection(), self._number(scorer)
            if number is None:
                return values
            by_image: dict[str, list[str]] = {}
            for image, text in keys:
                by_image.setdefault(image, []).append(text)
            for image, texts in by_image.items():
                for part in _chunks(texts):
                    rows = db.execute(
                        f"SELECT text, {column} FROM cell WHERE scorer=? AND image=? AND {column} "
                        f"IS NOT NULL AND text IN ({','.join('?' * len(part))})",
                        (number, image, *part),
                    )
                    values.update({(image, text): value for text, value in rows})
        return values

    def put_cells(
        self,
        scorer: str,
        rows: Iterable[tuple[str, str, float | None, str | None, str | None]],
        names: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> None:
        """Commit (image key, text key, value, error, detail) rows.

        A value that is already there stays, so that every cell has one answer; an error is
        replaced by a later answer.

        Args:
            scorer: the id of the scorer.
            rows: the cells; the value is None where there is an error.
            names: image key -> what to call it in an export.
            texts: text key -> the text.
        """
        with self._errors(), self._transaction() as db:
            number = self._number(scorer, db)
            db.executemany("INSERT OR IGNORE INTO image VALUES (?, ?)", names.items())
            db.executemany("INSERT OR IGNORE INTO text VALUES (?, ?)", texts.items())
            db.executemany(
                "INSERT INTO cell VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value="
                "excluded.value, error=excluded.error, detail=excluded.detail "
                "WHERE cell.value IS NULL",
                [(number, *row) for row in rows],
            )

    def get_embeddings(self, space: str, keys: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the stored embeddings of an encoder by content key."""
        embeddings = {}
        with self._errors():
            db, number = self._connection(), self._number(space)
            for part in _chunks(keys) if number is not None else ():
                for key, shape, data in db.execute(
                    "SELECT key, shape, data FROM embedding WHERE scorer=? AND key IN "
                    f"({','.join('?' * len(part))})",
                    (number, *part),
                ):
                    row = self._embedding(space, key, shape, data)
                    if np.isfinite(row).all():  # others are computed again
                        embeddings[key] = row
        return embeddings

    def _embedding(self, space: str, key: str, shape: Any, data: Any) -> NDArray[np.float32]:
        dims = shape.split(",") if isinstance(shape, str) else [""]
        if not all(n.isascii() and n.isdigit() and len(n) < 10 for n in dims):
            raise self._bad(f"the shape of embedding {key}", shape, "whole numbers", space)
        sides = [int(n) for n in dims]
        if not isinstance(data, bytes) or len(data) != 4 * math.prod(sides) or not data:
            size = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
            raise self._bad(f"embedding {key} of shape {shape}", size, "of that size", space)
        return np.frombuffer(data, np.float32).reshape(sides)

    def put_embeddings(self, space: str, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Commit embeddings by content key."""
        with self._errors(), self._transaction() as db:
            number = self._number(space, db)
            db.executemany(
                "INSERT OR IGNORE INTO embedding VALUES (?, ?, ?, ?)",
                [
                    (number, key, ",".join(map(str, row.shape)), row.tobytes())
                    for key, row in rows.items()
                    if np.isfinite(row).all()
                ],
            )

    def stats(self) -> list[Stats]:
        """Return the counts of each scorer and encoder."""
        with self._errors():
            stats = [
                Stats(*row)
                for row in self._connection().execute(
                    "SELECT name, (SELECT count(*) FROM cell WHERE scorer=s.id), "
                    "(SELECT count(*) FROM cell WHERE scorer=s.id AND value IS NULL), "
                    "(SELECT count(*) FROM embedding WHERE scorer=s.id) FROM scorer s ORDER BY name"
                )
            ]
        for entry in stats:
            if not isinstance(entry.scorer, str):
                raise self._bad("the id of a scorer", entry.scorer, "text", "*")
        return stats

    def rows(self, scorer: str = "*") -> Iterator[Row]:
        """Yield the cells of scorers whose id matches a glob, with names and texts."""
        with self._errors():
            for values in self._connection().execute(
                "SELECT s.name, i.name, t.content, c.value, c.error, c.detail FROM cell c "
                "JOIN scorer s ON s.id=c.scorer LEFT JOIN image i ON i.key=c.image "
                "LEFT JOIN text t ON t.key=c.text WHERE s.name GLOB ? ORDER BY 1, 2, 3",
                (scorer,),
            ):
                row = Row._make(values)
                for what, value in zip(Row._fields, row, strict=True):
                    required = what in ("scorer", "image", "text")
                    if what == "value" and value is not None:
                        where = f"the score of image {row.image!r}"
                        self._check_value(value, where, row.scorer)
                    elif not isinstance(value, str) and (required or value is not None):
                        raise self._bad(f"the {what} of a score", value, "text", row.scorer)
                yield row

    def scored_cells(self, scorer: str) -> list[StoredCell]:
        """Return the cells of one scorer that have a score, in the order of their keys.

        Cells of captions with references are left out, since the references are not stored.

        Args:
            scorer: its whole id.

        Raises:
            StoreError: a value is not a finite number.
        """
        with self._errors():
            cells = [
                StoredCell(*row[1:])
                for row in self._connection().execute(
                    "SELECT c.text, c.image, i.name, t.content, c.value, c.detail FROM cell c "
                    "JOIN scorer s ON s.id=c.scorer JOIN image i ON i.key=c.image "
                    "JOIN text t ON t.key=c.text WHERE s.name=? AND c.value IS NOT NULL "
                    "ORDER BY c.image, c.text",
                    (scorer,),
                )
                if row[0] == text_key(row[3])
            ]
        for cell in cells:
            self._check_value(cell.value, f"the score of image {cell.name!r}", scorer)
        return cells

    def prune(self, scorer: str, *, failed_only: bool = False) -> int:
        """Delete the cells (and embeddings) of the scorers whose id matches a glob.

        Returns:
            The number of deleted cells and embeddings.
        """
        which = "scorer IN (SELECT id FROM scorer WHERE name GLOB ?)"
        with self._errors():
            with self._transaction() as db:
                failed = " AND value IS NULL" if failed_only else ""
                deleted = db.execute(f"DELETE FROM cell WHERE {which}{failed}", (scorer,)).rowcount
                if not failed_only:
                    deleted += db.execute(
                        f"DELETE FROM embedding WHERE {which}", (scorer,)
                    ).rowcount
                    db.execute("DELETE FROM scorer WHERE name GLOB ?", (scorer,))
                db.execute("DELETE FROM image WHERE key NOT IN (SELECT image FROM cell)")
                db.execute("DELETE FROM text WHERE key NOT IN (SELECT text FROM cell)")
            with suppress(sqlite3.OperationalError):  # no room for it, or another process reads
                self._connection().execute("VACUUM")
        return deleted

    @contextmanager
    def attached(self, other: Store) -> Iterator[sqlite3.Connection]:
        """Open a transaction in which the tables of another store are those of the schema `other`.

        Args:
            other: the other store, which may be in use.
        """
        with self._errors():
            db = self._connection()
            db.execute("ATTACH ? AS other", (str(other.path),))
            try:
                with self._transaction():
                    yield db
            finally:
                db.execute("DETACH other")

    def check_values(self) -> None:
        """Check all scores and embeddings, as before they get into another store.

        Raises:
            StoreError: one is a value that no scorer can have written.
        """
        with self._errors():
            db = self._connection()
            for scorer, image, value in db.execute(
                "SELECT s.name, c.image, c.value FROM cell c JOIN scorer s ON s.id=c.scorer "
                f"WHERE c.value IS NOT NULL AND NOT (typeof(c.value)='real' AND "
                f"abs(c.value)<={_LARGEST!r})"
            ):
                self._check_value(value, f"the score of image {image}", scorer)
            for scorer, key, shape, data in db.execute(
                "SELECT s.name, e.key, e.shape, e.data FROM embedding e JOIN scorer s "
                "ON s.id=e.scorer"
            ):
                self._embedding(scorer, key, shape, data)

    def copy_to(self, path: Path) -> None:
        """Copy all that is committed to a new file, with what is still in the journal beside it.

        Args:
            path: a file that does not exist.
        """
        with self._errors(), closing(sqlite3.connect(path)) as copy:
            self._connection().backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")

    def close(self) -> None:
        """Close this thread's connection; the next use opens it again."""
        db = getattr(self._local, "db", None)
        if db is not None:
            db.close()
            self._local.db = None

    def _number(self, scorer: str, db: sqlite3.Connection | None = None) -> int | None:
        """Return the row of a scorer; inside a transaction `db` it is created if it is missing."""
        if db is not None:
            db.execute("INSERT OR IGNORE INTO scorer (name) VALUES (?)", (scorer,))
        row = self._connection().execute("SELECT id FROM scorer WHERE name=?", (scorer,)).fetchone()
        return None if row is None else int(row[0])

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            # A connection belongs to one thread; others wait up to a minute for a writer.
            # It may be closed by the thread that collects the store as garbage.
            db = sqlite3.connect(
                self.path,
                timeout=_PATIENCE,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )
            _share(db)
            db.execute("PRAGMA synchronous=NORMAL")
            self._local.db = db
        return db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk may have ended it already
                db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self.close()
            raise StoreError(
                f"the store {self.path} cannot be used: {error} ({_remedy(error)})"
            ) from error


_ELSEWHERE = "choose another path with `store=`, or keep no scores with `store=None`"
_FULL = (
    "the disk is full. Scores stored before are safe: free some space there and run the same "
    f"command again, or {_ELSEWHERE}"
)
_NO_DAMAGE = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: "another process holds it; try again",
    sqlite3.SQLITE_LOCKED: "another process holds it; try again",
    sqlite3.SQLITE_READONLY: f"the file or its folder is read-only: allow writing, or {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"writing is not permitted there: allow it, or {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: "the file and its folder must exist, be writable and have free space; "
    f"otherwise {_ELSEWHERE}",
    sqlite3.SQLITE_IOERR: "reading or writing failed: the disk may be full, at a quota or a limit "
    "of files, or disconnected. Scores stored before are safe: run the same command again when it "
    f"works, or {_ELSEWHERE}",
    sqlite3.SQLITE_NOMEM: "this machine has no memory left; scores stored before are safe",
}


def _remedy(error: Exception) -> str:
    """Return what to do about an error; a full disk or a locked file is not damage."""
    if isinstance(error, OSError):
        return _FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else _ELSEWHERE
    damaged = (
        "it may be damaged; it was left as it is. Move it away or choose another path with `store=`"
    )
    return _NO_DAMAGE.get((getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF, damaged)


class _Connection(sqlite3.Connection):
    """A connection that is closed with the store or the thread that it belongs to."""

    def __del__(self) -> None:
        self.close()


def _share(db: sqlite3.Connection) -> None:
    """Let several processes use the file; SQLite does not wait where two ask for this at once."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]
