"""Choose the items of a benchmark to evaluate: all, those with some tags, those with all images.

The choice is recorded for the report, since metrics of a part are not those of the benchmark.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from t2v_eval.errors import BenchmarkDataError, InputError, UnknownTagError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.inputs.addresses import is_address
from t2v_eval.inputs.media import parts_of
from t2v_eval.utils.arguments import wrong_type
from t2v_eval.utils.regular_file import is_file

OnMissing: TypeAlias = Literal["raise", "skip"]
MAX_NAMES = 3
"""How many names `first_few` lists."""


class HasTags(Protocol):
    """An item, or a row that becomes one.

    >>> from t2v_eval.evaluation.benchmark import Item
    >>> tagged: HasTags = Item([], [], tags=("colour",))
    >>> tagged.tags
    ('colour',)
    """

    @property
    def tags(self) -> Sequence[str]:
        """Return its categories."""
        ...


class HasImages(Protocol):
    """An item with images.

    >>> from t2v_eval.evaluation.benchmark import Item
    >>> item: HasImages = Item(["cat.png"], ["a cat"])
    >>> item.images
    ['cat.png']
    """

    @property
    def images(self) -> Sequence[Any]:
        """Return its images; those that are files are paths."""
        ...

    @property
    def id(self) -> str:
        """Return its name in reports."""
        ...


T = TypeVar("T", bound=HasTags)
R = TypeVar("R", bound=HasImages)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The items that were left out because an image is missing.

    Attributes:
        items: how many.
        missing: by the id of each item, the image that it lacks.

    >>> LeftOut(1, {"item 3": "images/3.png"}).items
    1
    """

    items: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """What a report says about a folder of generated images.

    Attributes:
        folder: its name.
        prompts: the number of prompts of which it has images.
        prompts_of_all: the number of all prompts.
        rules: the number of images that each naming rule matched.
        ignored: the number of files that were ignored, by reason.
        recipe: how the images were generated, of the ``recipe.json`` beside them; None without.

    >>> FolderFacts("mine", prompts=9, prompts_of_all=10).is_partial
    True
    """

    folder: str
    prompts: int
    prompts_of_all: int
    rules: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None

    @property
    def recipe_text(self) -> str:
        """Return the recipe in a line; empty without one.

        >>> FolderFacts("mine", 9, 9, recipe={"seed": 0, "scheduler": "DDIM"}).recipe_text
        'seed 0, scheduler "DDIM"'
        """
        facts = (self.recipe or {}).items()
        return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in facts)

    @property
    def is_partial(self) -> bool:
        """Return whether the folder lacks images of some prompts."""
        return self.prompts < self.prompts_of_all


@dataclass(frozen=True, slots=True)
class SelectionFacts:
    """What a report says about which items were evaluated.

    Attributes:
        subset: the tags of the part that was evaluated; empty for all items.
        items_of_all: the number of items to choose from.
        left_out: the items that lack an image.
        folders: how each folder of generated images was read.
        remarks: sentences that a report shows.

    >>> Selection("mine", "counting", "raise").facts(items=3).subset
    ['counting']
    """

    subset: Sequence[str]
    items_of_all: int
    left_out: LeftOut
    folders: Sequence[FolderFacts]
    remarks: Sequence[str]


class Selection:
    """The choice of items for one benchmark, and its result when items were last read.

    Args:
        name: the name of the benchmark.
        subset: tags; items that have one of them are chosen. All items without any.
        on_missing: "raise", or "skip" to leave out items whose image files are missing.
        sample: a random part of the items with these tags; None for all of them.

    Attributes:
        total: the number of items there were to choose from.
        left_out: the id of each item that was left out, with the image it lacks.
        remarks: what else a report says about how the items were read.
        folders: facts about image folders, for a report.

    >>> from t2v_eval.evaluation.benchmark import Item
    >>> items = [Item([], [], tags=("colour",), id="a"), Item([], [], tags=("size",), id="b")]
    >>> [item.id for item in Selection("mine", "colour", "raise").choose(items)]
    ['a']
    """

    def __init__(
        self,
        name: str,
        subset: str | Sequence[str],
        on_missing: OnMissing,
        sample: Sample | None = None,
    ) -> None:
        if on_missing not in ("raise", "skip"):
            raise InputError(f"`on_missing={on_missing!r}`; use 'raise' or 'skip'")
        if not isinstance(subset, Iterable):
            raise wrong_type("subset", subset, "a tag or a list of tags")
        self.name = name
        self.subset = (subset,) if isinstance(subset, str) else tuple(subset)
        self.on_missing: OnMissing = on_missing
        self.sample = sample
        self.restart()

    def restart(self) -> None:
        """Clear the result, before items are read again."""
        self.total: int | None = None
        self.left_out: dict[str, str] = {}
        self.remarks: list[str] = []
        self.folders: list[FolderFacts] = []

    @property
    def skips(self) -> bool:
        """Return whether items with missing images are left out."""
        return self.on_missing == "skip"

    @property
    def whole(self) -> bool:
        """Return whether all items were chosen; only then are published figures comparable."""
        return not (self.subset or self.left_out or self.sample)

    def choose(self, items: Sequence[Any], groups: Sequence[str] | None = None) -> list[Any]:
        """Apply `with_tags` and `with_images`."""
        return self.with_images(self.with_tags(items, groups))

    def with_tags(self, items: Sequence[T], groups: Sequence[str] | None = None) -> list[T]:
        """Return the items that have one of the tags of `subset`; of these, those of `sample`.

        Whether their images exist plays no part, so that all generators get the same prompts.

        Args:
            items: items, or rows that become items.
            groups: the group of each, "" for none. Default: their attribute `group`.

        Raises:
            UnknownTagError: no item has a tag of `subset`; the message lists the tags.
        """
        self.total = len(items)
        groups = [getattr(item, "group", "") for item in items] if groups is None else groups
        pairs = list(zip(items, groups, strict=True))
        if self.subset:
            counts = Counter(tag for item in items for tag in item.tags)
            tags = {self._resolve_tag(tag, counts) for tag in self.subset}
            pairs = [pair for pair in pairs if tags.intersection(pair[0].tags)]
        chosen = [item for item, _ in pairs]
        if self.sample is None:
            return chosen
        return self.sample.choose(chosen, [group for _, group in pairs])

    def with_images(self, items: Sequence[R]) -> list[R]:
        """Return the items whose image files all exist; all items unless `on_missing` is "skip".

        Raises:
            BenchmarkDataError: no item is left.
        """
        if not self.skips:
            return list(items)
        missing = {id(item): names for item in items if (names := missing_images(item))}
        for n, item in enumerate(items):
            if id(item) in missing:
                self.left_out[item.id or str(n)] = missing[id(item)][0]
        complete = [item for item in items if id(item) not in missing]
        if items and not complete:
            raise BenchmarkDataError(
                f"{self.name}: each of {len(items)} items lacks an image, the first is "
                f"{next(iter(missing.values()))[0]}: nothing is left to evaluate"
            )
        return complete

    def facts(self, items: int) -> SelectionFacts:
        """Return what a report says about the choice; `items` is how many are evaluated."""
        return SelectionFacts(
            subset=list(self.subset),
            items_of_all=items if self.total is None else self.total,
            left_out=LeftOut(len(self.left_out), dict(self.left_out)),
            folders=list(self.folders),
            remarks=[*self._choice_remarks(items), *self.remarks],
        )

    def _choice_remarks(self, items: int) -> list[str]:
        remarks = []
        if self.subset:
            count = "" if self.sample else f": {items} of {self.total} items"
            remarks.append(
                f"Only the part with {_tag_list(self.subset)}{count}. Do not compare its figures "
                "with those of the whole benchmark."
            )
        if self.sample is not None and self.total and items < self.total:
            remarks.append(
                f"A random sample: {items} of {self.total} items (limit {self.sample.limit}, seed "
                f"{self.sample.seed}). Do not compare its figures with those of the whole "
                "benchmark."
            )
        if self.left_out:
            remarks.append(
                f"{len(self.left_out)} items are left out because an image is missing: "
                f"{first_few(list(self.left_out))}. Images may not be missing at random."
            )
        return remarks

    def _resolve_tag(self, tag: str, counts: Counter[str]) -> str:
        """Return the tag as items spell it."""
        if tag in counts:
            return tag
        alike = [name for name in counts if name.casefold() == tag.strip().casefold()]
        if len(alike) == 1:
            return alike[0]
        if not counts:
            raise UnknownTagError(f"`subset={tag!r}`: the items of {self.name} have no tags")
        close = difflib.get_close_matches(tag, counts, n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        tags = ", ".join(f"{name} ({count})" for name, count in counts.items())
        raise UnknownTagError(
            f"`subset={tag!r}`: no item of {self.name} has the tag {tag!r}.{hint} The tags, with "
            f"their numbers of items: {tags}"
        )


def missing_images(item: HasImages) -> list[str]:
    """Return the images of an item that are paths of files that do not exist.

    >>> from t2v_eval.evaluation.benchmark import Item
    >>> missing_images(Item(["no-such-file.png", "https://example.org/a.png"], ["a cat"]))
    ['no-such-file.png']
    """
    return [
        image
        for source in item.images
        for image in parts_of(source)
        if isinstance(image, str) and not is_address(image) and not is_file(image)
    ]


def first_few(names: Sequence[str], count: int = MAX_NAMES) -> str:
    """Join the first few of many names, for a message.

    >>> first_few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _tag_list(tags: Sequence[str]) -> str:
    return ("the tag " if len(tags) == 1 else "one of the tags ") + ", ".join(map(repr, tags))
