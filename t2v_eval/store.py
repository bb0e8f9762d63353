"""The store: every score and embedding already computed, in one SQLite file.

One row a cell, one blob an embedding, keyed by scorer id, picture content and text. A `put` is
committed when it returns, so a killed run loses at most the batch in flight. Several processes may
share the file (WAL); a file that is not a store of ours is never written to.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import StoreError

APPLICATION_ID = 0x54325645  # "T2VE" in the header of the file
VERSION = 2
_CHUNK = 500
_PATIENCE = 60.0  # seconds for which a process waits for another

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
    """A cell as it is stored; `value` is None where `error` says why there is none.

    `detail` is what else the model said, as JSON.
    """

    scorer: str
    image: str
    text: str
    value: float | None
    error: str | None
    detail: str | None = None


class Stats(NamedTuple):
    """What one scorer has in the store."""

    scorer: str
    cells: int
    failed: int
    embeddings: int


def text_key(text: str) -> str:
    """The key of a text: a hash of its characters, nothing normalised."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Store:
    """A score store at `path`, created when it is not there.

    Raises:
        StoreError: a folder that cannot be written, a locked, damaged or foreign file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._local = threading.local()
        with self._errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists() or self.path.stat().st_size == 0:
                self._create()
            self._check()

    def _create(self) -> None:
        """Make a file that is not there, or empty, a store in one transaction.

        SQLite lets one process do so at a time and shows no other half a store; nothing is linked,
        which some file systems refuse, and nothing that another may have made is taken away.
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
        """Refuse what is not ours before SQLite, which would happily write into it, opens it."""
        with self.path.open("rb") as stream:
            header = stream.read(100)
        left = "; it was left as it is. Choose another --store path, or move the file away."
        if not header.startswith(b"SQLite format 3\0"):
            raise StoreError(f"{self.path} is not a t2v-eval store, or is damaged{left}")
        application, version = (int.from_bytes(header[at : at + 4], "big") for at in (68, 60))
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path} is a SQLite file of another program{left}")
        if version != VERSION:
            raise StoreError(
                f"{self.path} has store version {version} and this t2v-eval reads {VERSION}{left}"
            )
        problem = self._connection().execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise StoreError(f"{self.path} is damaged ({problem}){left}")

    def get_cells(
        self, scorer: str, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], float]:
        """Values of the (image key, text key) pairs that are there; failed cells are not."""
        found: dict[tuple[str, str], float] = self._read("value", scorer, keys)
        return found

    def get_details(
        self, scorer: str, keys: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], str]:
        """What else the model said of these (image key, text key) cells, as JSON, where it did."""
        found: dict[tuple[str, str], str] = self._read("detail", scorer, keys)
        return found

    def _read(self, column: str, scorer: str, keys: Iterable[tuple[str, str]]) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        with self._errors():
            db, number = self._connection(), self._number(scorer)
            if number is None:
                return found
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
                    found.update({(image, text): value for text, value in rows})
        return found

    def put_cells(
        self,
        scorer: str,
        rows: Iterable[tuple[str, str, float | None, str | None, str | None]],
        names: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> None:
        """Commit (image key, text key, value, error, detail) rows.

        A value that is already there is kept, so every cell has exactly one answer; an error is
        replaced by a later answer.

        Args:
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
        """The stored embeddings of an encoder, by content key."""
        found = {}
        with self._errors():
            db, number = self._connection(), self._number(space)
            for part in _chunks(keys) if number is not None else ():
                for key, shape, data in db.execute(
                    "SELECT key, shape, data FROM embedding WHERE scorer=? AND key IN "
                    f"({','.join('?' * len(part))})",
                    (number, *part),
                ):
                    dims = [int(n) for n in shape.split(",")]
                    found[key] = np.frombuffer(data, np.float32).reshape(dims)
        return found

    def put_embeddings(self, space: str, rows: Mapping[str, NDArray[np.float32]]) -> None:
        """Commit embeddings by content key."""
        with self._errors(), self._transaction() as db:
            number = self._number(space, db)
            db.executemany(
                "INSERT OR IGNORE INTO embedding VALUES (?, ?, ?, ?)",
                [
                    (number, key, ",".join(map(str, row.shape)), row.tobytes())
                    for key, row in rows.items()
                ],
            )

    def stats(self) -> list[Stats]:
        """What each scorer and encoder has in the store."""
        with self._errors():
            return [
                Stats(*row)
                for row in self._connection().execute(
                    "SELECT name, (SELECT count(*) FROM cell WHERE scorer=s.id), "
                    "(SELECT count(*) FROM cell WHERE scorer=s.id AND value IS NULL), "
                    "(SELECT count(*) FROM embedding WHERE scorer=s.id) FROM scorer s ORDER BY name"
                )
            ]

    def rows(self, scorer: str = "*") -> Iterator[Row]:
        """Every cell of the scorers whose id matches a glob, with names and texts for an export."""
        with self._errors():
            yield from map(
                Row._make,
                self._connection().execute(
                    "SELECT s.name, i.name, t.content, c.value, c.error, c.detail FROM cell c "
                    "JOIN scorer s ON s.id=c.scorer JOIN image i ON i.key=c.image "
                    "JOIN text t ON t.key=c.text WHERE s.name GLOB ? ORDER BY 1, 2, 3",
                    (scorer,),
                ),
            )

    def prune(self, scorer: str, *, failed_only: bool = False) -> int:
        """Delete the cells (and embeddings) of the scorers whose id matches a glob.

        Returns:
            how many cells and embeddings were deleted.
        """
        which = "scorer IN (SELECT id FROM scorer WHERE name GLOB ?)"
        with self._errors():
            with self._transaction() as db:
                failed = " AND value IS NULL" if failed_only else ""
                gone = db.execute(f"DELETE FROM cell WHERE {which}{failed}", (scorer,)).rowcount
                if not failed_only:
                    gone += db.execute(f"DELETE FROM embedding WHERE {which}", (scorer,)).rowcount
                    db.execute("DELETE FROM scorer WHERE name GLOB ?", (scorer,))
                db.execute("DELETE FROM image WHERE key NOT IN (SELECT image FROM cell)")
                db.execute("DELETE FROM text WHERE key NOT IN (SELECT text FROM cell)")
            self._connection().execute("VACUUM")
        return gone

    def close(self) -> None:
        """Close this thread's connection; the next use opens it again."""
        db = getattr(self._local, "db", None)
        if db is not None:
            db.close()
            self._local.db = None

    def _number(self, scorer: str, db: sqlite3.Connection | None = None) -> int | None:
        """The row of a scorer; inside a transaction `db` it is made when it is not there."""
        if db is not None:
            db.execute("INSERT OR IGNORE INTO scorer (name) VALUES (?)", (scorer,))
        row = self._connection().execute("SELECT id FROM scorer WHERE name=?", (scorer,)).fetchone()
        return None if row is None else int(row[0])

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            # A connection belongs to one thread; others wait up to a minute for a writer.
            db = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
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
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except sqlite3.DatabaseError as error:
            self.close()
            remedy = (
                "another process holds it; try again"
                if "locked" in str(error)
                else "it may be damaged; it was left as it is. Move it away or choose another "
                "--store path"
            )
            raise StoreError(f"the store {self.path} cannot be used: {error} ({remedy})") from error
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be used: {error}. Choose another --store path, or "
                "run with --no-store."
            ) from error


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
