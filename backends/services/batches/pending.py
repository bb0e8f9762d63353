"""The record of submitted batches, in a folder beside the store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.utils.files import write_text


def question_id(scorer: str, image: str, text: str) -> str:
    """Return the id of a question: a hash of the keys by which the store finds its score.

    Args:
        scorer: the id of the scorer.
        image: the key of the image.
        text: the key of the text.

    >>> len(question_id("gpt-4o", "image", "a cat"))
    32
    """
    key = "\0".join((scorer, image, text)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


class PendingBatches:
    """Batches that were submitted and not yet collected.

    An entry is a JSON file {"file", "batch", "server", "ids"} of its own, so that processes that
    share a store do not overwrite each other's entries.

    >>> from tempfile import TemporaryDirectory
    >>> entry = {"file": "file-1", "batch": "", "server": "https://api.openai.com/v1", "ids": ["7"]}
    >>> with TemporaryDirectory() as folder:
    ...     pending = PendingBatches(Path(folder, "scores.db"))
    ...     pending.save(entry)
    ...     pending.save(entry | {"batch": "batch-1"})
    ...     [entry["batch"] for entry in pending.load()]
    ['batch-1']
    """

    def __init__(self, store: Path) -> None:
        self.folder = store.with_name(f"{store.name}.batches")

    def load(self) -> list[dict[str, Any]]:
        """Return all entries.

        Raises:
            InputError: a file is damaged.
        """
        return [self._entry(path) for path in sorted(self.folder.glob("*.json"))]

    def _entry(self, path: Path) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8-sig"))
            {name: entry[name] for name in ("file", "batch", "server", "ids")}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {error!r}; move it away") from None
        return entry

    def save(self, entry: dict[str, Any]) -> None:
        """Add an entry, or replace the entry of the same input file."""
        self.folder.mkdir(exist_ok=True)
        write_text(self._path(entry), json.dumps(entry))

    def remove(self, entry: dict[str, Any]) -> None:
        """Delete an entry; another process may have done so before."""
        self._path(entry).unlink(missing_ok=True)

    def _path(self, entry: dict[str, Any]) -> Path:
        return self.folder / f"{entry['file'].replace('/', '-')}.json"
