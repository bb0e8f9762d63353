"""Which items of a benchmark are evaluated: all, those with some tags, those whose pictures exist.

What was chosen is kept for the report, since figures of a part are not those of the benchmark.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

from t2v_eval.errors import BenchmarkDataError, InputError

MOST_NAMED = 3  # of what is missing, in a message


class Tagged(Protocol):
    """An item, or what becomes one."""

    @property
    def tags(self) -> Sequence[str]: ...


class Pictured(Protocol):
    """An item with pictures."""

    @property
    def images(self) -> Sequence[Any]: ...
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Tagged)
P = TypeVar("P", bound=Pictured)


class SelectionFacts(TypedDict):
    """What a report says about which items were evaluated."""

    subset: list[str]
    items_of_all: int
    left_out: dict[str, Any]
    folders: list[dict[str, Any]]
    remarks: list[str]


class Selection:
    """The choice for one benchmark, and what came of it when its items were last read.

    Args:
        name: the benchmark's.
        subset: tags; items that have one of them are chosen. All items where there are none.
        on_missing: "error", or "skip": items with a picture that is not there are left out.

    `total` is how many items there were to choose from, `left_out` the id of each that lacks a
    picture with what it lacks, `remarks` what else a report says of how the items were read, and
    `folders` the same of folders of pictures, as data.
    """

    def __init__(self, name: str, subset: str | Sequence[str], on_missing: str) -> None:
        if on_missing not in ("error", "skip"):
            raise InputError(f"on_missing={on_missing!r}; use 'error' or 'skip'")
        self.name = name
        self.subset = (subset,) if isinstance(subset, str) else tuple(subset)
        self.on_missing = on_missing
        self.restart()

    def restart(self) -> None:
        """Forget what came of it, before items are read anew."""
        self.total: int | None = None
        self.left_out: dict[str, str] = {}
        self.remarks: list[str] = []
        self.folders: list[dict[str, Any]] = []

    @property
    def skips(self) -> bool:
        """Whether items without their pictures are left out."""
        return self.on_missing == "skip"

    @property
    def whole(self) -> bool:
        """Whether all items were chosen, so that published figures may stand beside ours."""
        return not (self.subset or self.left_out)

    def choose(self, items: Sequence[Any]) -> list[Any]:
        """Both `part` and `there`."""
        return self.there(self.part(items))

    def part(self, things: Sequence[T]) -> list[T]:
        """What has one of the tags of `subset`.

        Raises:
            InputError: a tag that nothing has; the message lists those that there are.
        """
        self.total = len(things)
        if not self.subset:
            return list(things)
        known = Counter(tag for thing in things for tag in thing.tags)
        wanted = {self._known(tag, known) for tag in self.subset}
        return [thing for thing in things if wanted.intersection(thing.tags)]

    def there(self, items: Sequence[P]) -> list[P]:
        """The items whose pictures are there, of which files alone may be missing.

        Raises:
            BenchmarkDataError: no item is left.
        """
        if not self.skips:
            return list(items)
        lacking = {id(item): missing for item in items if (missing := missing_pictures(item))}
        for n, item in enumerate(items):
            if id(item) in lacking:
                self.left_out[item.id or str(n)] = lacking[id(item)][0]
        kept = [item for item in items if id(item) not in lacking]
        if items and not kept:
            raise BenchmarkDataError(
                f"{self.name}: each of {len(items)} items lacks a picture, the first is "
                f"{next(iter(lacking.values()))[0]}: nothing is left to evaluate"
            )
        return kept

    def facts(self, items: int) -> SelectionFacts:
        """What a report says of the choice, as data; `items` is how many are evaluated."""
        return {
            "subset": list(self.subset),
            "items_of_all": items if self.total is None else self.total,
            "left_out": {"items": len(self.left_out), "missing": dict(self.left_out)},
            "folders": self.folders,
            "remarks": [*self._choice(items), *self.remarks],
        }

    def _choice(self, items: int) -> list[str]:
        told = []
        if self.subset:
            told.append(
                f"Only the part with {_listed(self.subset)}: {items} of {self.total} items, which "
                "figures of the whole benchmark are not to be compared with."
            )
        if self.left_out:
            told.append(
                f"{len(self.left_out)} items are left out, as a picture of theirs is missing: "
                f"{some(list(self.left_out))}. Pictures may not be missing by chance."
            )
        return told

    def _known(self, tag: str, known: Counter[str]) -> str:
        if tag in known:
            return tag
        alike = [one for one in known if one.casefold() == tag.strip().casefold()]
        if len(alike) == 1:
            return alike[0]
        if not known:
            raise InputError(f"subset: the items of {self.name} have no tags, so {tag!r} is none")
        close = difflib.get_close_matches(tag, known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        tags = ", ".join(f"{one} ({count})" for one, count in known.items())
        raise InputError(
            f"subset: no item of {self.name} has the tag {tag!r}.{hint} The tags, with how many "
            f"items have each: {tags}"
        )


def missing_pictures(item: Pictured) -> list[str]:
    """The pictures of an item that are named by a path where no file is."""
    return [
        image
        for image in item.images
        if isinstance(image, str)
        and not image.startswith(("http://", "https://"))
        and not _is_file(image)
    ]


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # no file can have such a name
        return False


def some(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _listed(tags: Sequence[str]) -> str:
    return ("the tag " if len(tags) == 1 else "one of the tags ") + ", ".join(map(repr, tags))
