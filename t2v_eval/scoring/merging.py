"""Merge stores, such as those of several workers: `t2v-eval store merge`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from t2v_eval.errors import StoreError
from t2v_eval.store import Store
from t2v_eval.utils.arguments import check_path

# Workers embed a text that they share in batches of their own, which changes its last digits: in
# bfloat16, which has 8 bits, by a few thousandths.
ROUNDING = 0.01

_NAMES = {"scorer": "name", "image": "key, name", "text": "key, content"}
# The rows of the attached store, with the scorers of the one that they are added to.
_ROWS = "FROM other.{0} o JOIN other.scorer t ON t.id=o.scorer JOIN main.scorer s ON s.name=t.name "
_CELL_CONFLICTS = (
    "SELECT s.name, coalesce(i.name, o.image), coalesce(x.content, o.text), c.value, o.value "
    + _ROWS.format("cell")
    + "JOIN main.cell c ON c.scorer=s.id AND c.image=o.image AND c.text=o.text "
    "LEFT JOIN main.image i ON i.key=o.image LEFT JOIN main.text x ON x.key=o.text "
    "WHERE c.value <> o.value ORDER BY 1, 2, 3"
)
_OTHER_EMBEDDINGS = (
    "SELECT s.name, o.key, e.shape, e.data, o.shape, o.data "
    + _ROWS.format("embedding")
    + "JOIN main.embedding e ON e.scorer=s.id AND e.key=o.key "
    "WHERE e.shape <> o.shape OR e.data <> o.data ORDER BY 1, 2"
)
_ADD_CELLS = (
    "INSERT INTO main.cell SELECT s.id, o.image, o.text, o.value, o.error, o.detail "
    + _ROWS.format("cell")
    + "WHERE true ON CONFLICT DO UPDATE SET value=excluded.value, error=excluded.error, "
    "detail=excluded.detail WHERE cell.value IS NULL AND excluded.value IS NOT NULL"
)
_ADD_EMBEDDINGS = (
    "INSERT OR IGNORE INTO main.embedding SELECT s.id, o.key, o.shape, o.data "
    + _ROWS.format("embedding")
)


class Conflict(NamedTuple):
    """A cell or an embedding that two stores have with other values.

    Attributes:
        scorer: the id of the scorer or encoder.
        image: the name of the image; of an embedding, its key.
        text: the text; "" of an embedding.
        value: the score that was there and stays; None of an embedding.
        other: the score of the other store; None of an embedding.

    >>> Conflict("mine v1", "cat.png", "a cat", value=0.5, other=0.75).other
    0.75
    """

    scorer: str
    image: str
    text: str
    value: float | None
    other: float | None


class Merged(NamedTuple):
    """What a merge did.

    Attributes:
        scores: the number of cells that were added, or whose error was replaced by a value.
        embeddings: the number of embeddings that were added.
        conflicts: what was there with another value, which stays.

    >>> Merged(scores=4, embeddings=0, conflicts=[]).scores
    4
    """

    scores: int
    embeddings: int
    conflicts: list[Conflict]


def merge(store: Store | str | Path, files: Sequence[str | Path]) -> list[Merged]:
    """Add the cells and embeddings of other stores, each in one transaction.

    What is there already stays; an error is replaced by a value. So a second merge of a store
    changes nothing, and one that is interrupted has added a store completely or not at all.
    Embeddings that differ by rounding alone are no conflict, since several workers may embed the
    same text.

    Args:
        store: the store to add to, or its path; it is created if there is none.
        files: the other stores, which may be in use; `store` itself adds nothing.

    Returns:
        What each of them added.

    Raises:
        StoreError: one of them does not exist, is no store or of a newer version, or holds a value
            that no scorer can have written; nothing is added then.

    >>> import tempfile
    >>> from t2v_eval.store import text_key
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, shard = (Store(Path(folder) / name) for name in ("all.sqlite", "1.sqlite"))
    ...     rows = [("cat", text_key("a cat"), 0.5, None, None)]
    ...     shard.put_cells("mine v1", rows, {"cat": "cat.png"}, {text_key("a cat"): "a cat"})
    ...     [merged.scores for merged in merge(store, [shard.path, shard.path])]
    [1, 0]
    """
    others = [_open(check_path("store", file)) for file in files]
    whole = store if isinstance(store, Store) else Store(store)  # after what may be refused
    return [_add(whole, other) for other in others]


def _open(path: Path) -> Store:
    if not path.is_file():
        raise StoreError(f"there is no store at {path}")
    with closing(Store(path)) as store:  # a connection to each of hundreds would be too many
        store.check_values()
    return store


def _add(store: Store, other: Store) -> Merged:
    if other.path.samefile(store.path):
        return Merged(0, 0, [])
    with store.attached(other) as db:
        for table, columns in _NAMES.items():
            db.execute(
                f"INSERT OR IGNORE INTO main.{table} ({columns}) "
                f"SELECT {columns} FROM other.{table}"
            )
        conflicts = [Conflict._make(row) for row in db.execute(_CELL_CONFLICTS)]
        conflicts += [
            Conflict(scorer, key, "", None, None)
            for scorer, key, *both in db.execute(_OTHER_EMBEDDINGS)
            if _apart(*both)
        ]
        scores = db.execute(_ADD_CELLS).rowcount
        embeddings = db.execute(_ADD_EMBEDDINGS).rowcount
    return Merged(scores, embeddings, conflicts)


def _apart(shape: str, data: bytes, other_shape: str, other_data: bytes) -> bool:
    """Return whether two embeddings differ by more than batches change them."""
    if shape != other_shape:
        return True
    first, second = (np.frombuffer(content, np.float32) for content in (data, other_data))
    return not np.linalg.norm(first - second) <= ROUNDING * np.linalg.norm(first)
