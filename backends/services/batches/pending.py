"""What was submitted to be answered later, written down beside the store before and after."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.utils.files import write_text


def question_id(scorer: str, image: str, text: str) -> str:
    """What a question is called: a hash of what the store looks its answer up by."""
    key = "\0".join((scorer, image, text)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


class Ledger:
    """What was submitted and not yet collected, in a folder beside the store.

    An entry is {"file", "batch", "server", "ids"}, and a file of its own, so that processes that
    share a store do not write over each other's.
    """

    def __init__(self, store: Path) -> None:
        self.folder = store.with_name(f"{store.name}.batches")

    def read(self) -> list[dict[str, Any]]:
        """Every entry."""
        return [self._entry(path) for path in sorted(self.folder.glob("*.json"))]

    def _entry(self, path: Path) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            {name: entry[name] for name in ("file", "batch", "server", "ids")}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {error!r}; move it away") from None
        return entry

    def put(self, entry: dict[str, Any]) -> None:
        """Add an entry, or replace that of the same file."""
        self.folder.mkdir(exist_ok=True)
        write_text(self._path(entry), json.dumps(entry))

    def drop(self, entry: dict[str, Any]) -> None:
        """Forget an entry; another process may have done so."""
        self._path(entry).unlink(missing_ok=True)

    def _path(self, entry: dict[str, Any]) -> Path:
        return self.folder / f"{entry['file'].replace('/', '-')}.json"
