"""Choose a random part of a benchmark's items that stays nearly the same when items are added.

Each item has a place in a random order that follows from the seed and a hash of the item itself, so
that items that are added or removed move no other. Items of a group are chosen together.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import parts_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """The random part of the items that was evaluated.

    Attributes:
        limit: how many items were wanted at most; a group counts as one.
        seed: of the random choice.

    >>> Sample(limit=50).seed
    0
    """

    limit: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in (("limit", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise InputError(f"`{name}={value!r}`: pass a whole number of at least {lowest}")

    def choose(self, items: Sequence[T], groups: Sequence[str] | None = None) -> list[T]:
        """Return at most `limit` of the items, or groups of items, in their order.

        Args:
            items: items, or rows that become items.
            groups: the group of each, "" for none. Default: their attribute `group`.

        >>> from t2v_eval.evaluation.benchmark import Item
        >>> items = [Item([], [f"a cat with {n} legs"]) for n in range(9)]
        >>> [item.texts[0][11] for item in Sample(3).choose(items)]
        ['3', '7', '8']
        >>> [item.texts[0][11] for item in Sample(3).choose(items[:8])]
        ['3', '6', '7']
        """
        if groups is None:
            groups = [getattr(item, "group", "") for item in items]
        contents = [
            ["group", group] if group else _content(item)
            for item, group in zip(items, groups, strict=True)
        ]
        times: Counter[str] = Counter()
        units = []
        for content, group in zip(contents, groups, strict=True):
            unit = json.dumps(content, ensure_ascii=False, default=str)
            if not group:  # equal items are several units
                times[unit] += 1
                unit += f" {times[unit]}"
            units.append(unit)
        chosen = set(sorted(set(units), key=self._place)[: self.limit])
        return [item for item, unit in zip(items, units, strict=True) if unit in chosen]

    def _place(self, unit: str) -> bytes:
        text = f"{self.seed} {unit}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest()


def _content(item: Any) -> list[Any]:
    """Return what an item is known by: its texts and the names of its images.

    Neither its number, which changes when items are added, nor the folder that its images lie in.
    """
    texts = getattr(item, "texts", None)
    images = getattr(item, "images", ())
    files = [part for image in images for part in parts_of(image)]
    names = [PurePath(file).name for file in files if isinstance(file, str)]
    unnamed = len(names) < len(files) or (not names and not texts)
    return [
        [item.text] if texts is None else list(texts),
        names,
        getattr(item, "id", "") if unnamed else "",
    ]
