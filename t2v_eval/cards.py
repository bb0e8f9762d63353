"""Cards of scorers and benchmarks: names and their facts, read from TOML files.

A card is a name and its facts in a TOML file beside the module it describes. The module has the
file's name, unless the file says `module = "folder.another"`, relative to the package. Listings
read the TOML and import no module; `registry` imports the one that is built.

```toml
# backends/mine.toml
entry = "Mine"                           # a class in mine.py
kind = "preference"                      # top-level keys hold for every name in the file
[names.mine-v1]
summary = "CLIP ViT-H/14 fine-tuned on our preferences"
checkpoint = "someone/mine-v1"           # keys that are no facts go to the constructor
```

Strings that start with "./" are files beside the card. Other packages declare an entry point in
the registry's group, whose value is a package that holds such cards.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from t2v_eval.errors import InputError
from t2v_eval.utils.card_tables import TABLES, check_tables, holds
from t2v_eval.utils.signatures import accepted, source_of
from t2v_eval.utils.toml import read_toml

# The words that `geometry` of a card may hold, and what they say of an image that is no square.
GEOMETRIES = {
    "crop": "the middle square is cut out and resized: the ends of the image are not seen",
    "stretch": "the whole image is resized to a square, which distorts it",
    "pad": "the whole image is resized and padded to a square, which makes it smaller",
    "aspect": "the whole image is resized in proportion, to a limited number of pixels",
    "tiles": "the image is cut into as many squares as its proportions need, most often with a "
    "small copy of the whole",
    "checkpoint": "as the files of the checkpoint say, or `crop` where they say nothing",
    "scorer": "as the scorer behind it",
    "service": "the whole image is sent, and the service decides",
    "own": "as your own code does",
}


Geometry: TypeAlias = str  # a word of `GEOMETRIES`
Figures: TypeAlias = Mapping[str, Any]  # by metric, the value of each scorer and their `source`


@dataclass(frozen=True, slots=True)
class Card:
    """A name and its facts: those that scorers and benchmarks share.

    Attributes:
        name: what users call it.
        entry: the class to build, or a function that returns an object.
        module: the module of `entry`.
        kind: group in listings, for example "vqa" or "preference".
        summary: one line for listings.
        license: licence of the weights or of the data.
        paper: where it was published.
        verified: what its numbers were checked against.
        extra: the pip extra that installs its packages.
        package: the pip name of the package it imports, where that differs from the module's name.
        demo: whether `t2v-eval demo` runs it.
        suffixes: file endings that a family takes by their path.
        file: the TOML file of the card.
        args: keyword arguments of the constructor: all keys that are no facts.

    >>> Card("mine", entry="Mine", module="my_package.mine", kind="vqa").kind
    'vqa'
    """

    name: str
    entry: str
    module: str
    kind: str = ""
    summary: str = ""
    license: str = ""
    paper: str = ""
    verified: str = ""
    extra: str = ""
    package: str = ""
    demo: bool = False
    suffixes: Sequence[str] = ()
    file: Path | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, str]:
        """Return every known fact and the constructor's arguments as text.

        >>> ModelCard("mine", "Mine", "mine", kind="vqa", args={"scale": 2}).described()
        {'name': 'mine', 'kind': 'vqa', 'differentiable': 'False', 'scale': '2'}
        """
        facts = {f.name: getattr(self, f.name) for f in fields(self)}
        facts |= facts.pop("args")
        for several in ("known_answers", "aliases"):
            facts[several] = ", ".join(facts.get(several, ()))
        if facts.get("geometry"):
            facts["geometry"] = f"{facts['geometry']}: {GEOMETRIES[facts['geometry']]}"
        del facts["entry"], facts["module"], facts["file"]
        return {name: str(fact) for name, fact in facts.items() if fact or name == "differentiable"}


@dataclass(frozen=True, slots=True)
class ModelCard(Card):
    """The card of a scorer.

    Attributes:
        range: range of its scores; higher is better.
        geometry: what it crops, pads or stretches: a word of `GEOMETRIES`.
        differentiable: whether it gives gradients with respect to images.
        default: whether it is used if no scorer of its kind is named.
        captions: "alone" or "references" for the default scorer of captions without or with them.
        expects_size: (width, height) of images in pixels; others get the `caution`.
        caution: warning in reports for images of another size.
        remote: whether images are sent to an API, which may cost money.
        follows: the version of t2v_metrics whose template it uses by default.
        questions: templates by the name of a version of t2v_metrics.
        tested: "CLASS LANGUAGE_MODEL" of each network of its family for which a test compares
            shared work with unshared; others are compared when they are loaded.
        features: the name by which distances take its image embeddings, besides its own.
        generator: of a family, "MODULE.CLASS" of what makes images by the same service; the
            module is relative to the folder of the card's module.
        aliases: other names that load it, such as that of its paper or its hub id; tables of
            published figures may have one in the place of its name.
        networks: families of networks that it was trained from, where its name does not say so: a
            generator that was guided with one of them is not judged independently.
        expects_config: values of the published config.json by their dotted names.
        known_answers: numbers that are published for images, by name; see `verification.known`.

    >>> ModelCard("mine", "Mine", "my_package.mine", range="0 to 1").range
    '0 to 1'
    """

    range: str = ""
    geometry: Geometry = ""
    differentiable: bool = False
    default: bool = False
    captions: str = ""
    expects_size: tuple[int, int] | None = None
    caution: str = ""
    remote: bool = False
    follows: str = ""
    questions: Mapping[str, str] = field(default_factory=dict)
    tested: Sequence[str] = ()
    features: str = ""
    generator: str = ""
    aliases: Sequence[str] = ()
    networks: Sequence[str] = ()
    expects_config: Mapping[str, Any] = field(default_factory=dict)
    known_answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known_as(self) -> tuple[str, ...]:
        """Return its name and its aliases.

        >>> ModelCard("hpsv3", "HpsV3", "preference.hpsv3", aliases=["HPSv3"]).known_as
        ('hpsv3', 'HPSv3')
        """
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class BenchmarkCard(Card):
    """The card of a benchmark.

    Attributes:
        size: how much data it has.
        page: its web page.
        obtain: how to get its files.
        hub: the data set of the Hugging Face Hub that holds `files`.
        url: the web folder that holds `files`.
        files: files that `t2v-eval data --fetch` downloads.
        sha256: hashes of files by their path.
        folders: other names that its folder may have.
        published: by metric, the published value of each scorer and their `source`, which reports
            show beside measured ones.
        orders_pairs: the metric of `published` that is the share of pairs of images of one prompt
            that a scorer orders as people do.
        verdicts: by scorer, how many pairs of generators came to each outcome of
            `stats.decisions` (`same`, `opposite`, `missed`, `claimed`, `neither`) and how many have
            their means in the other order (`reordered`), each 0 by default; and their `source`.
        note: remark below its results.

    >>> BenchmarkCard("mine", "Mine", "my_package.mine", size="100 items").size
    '100 items'
    """

    size: str = ""
    page: str = ""
    obtain: str = ""
    hub: str = ""
    url: str = ""
    files: Sequence[str] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    published: Figures = field(default_factory=dict)
    orders_pairs: str = ""
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


C = TypeVar("C", bound=Card)


def facts_of(card_type: type[Card]) -> dict[str, str]:
    """Return the types of the facts that a TOML file may set, by name.

    >>> facts_of(ModelCard)["differentiable"]
    'bool'
    """
    computed = ("name", "module", "args", "file")
    return {f.name: str(f.type) for f in fields(card_type) if f.name not in computed}


def _are_figures(value: object) -> bool:
    """Return whether a fact has a finite number for each name of a metric, but for `source`."""
    tables = list(value.values()) if isinstance(value, Mapping) else [None]
    return all(
        isinstance(table, Mapping)
        and isinstance(table.get("source", ""), str)
        and all(
            type(number) in (int, float) and math.isfinite(number)
            for name, number in table.items()
            if name != "source"
        )
        for table in tables
    )


# Types of facts: their description in messages, and a check.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "Geometry": (f"one of {', '.join(GEOMETRIES)}", lambda value: value in [*GEOMETRIES]),
    "Sequence[str]": ("a list of texts", lambda value: holds(value, str)),
    "Mapping[str, str]": (
        "a table of texts",
        lambda value: isinstance(value, Mapping) and holds([*value.values()], str),
    ),
    "Figures": ("a table for each metric, of numbers by scorer and a text `source`", _are_figures),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, Mapping)),
    "tuple[int, int] | None": (
        "a list of two whole numbers",
        lambda value: holds(value, int) and len(value) == 2,
    ),
}
CardEntry: TypeAlias = tuple[C, str]  # a card; of a family also the argument that gets its rest


def read_cards(package: str, card_type: type[C]) -> tuple[list[CardEntry[C]], list[CardEntry[C]]]:
    """Read the names and the families in the card files of a package; import no module.

    TOML files whose names begin with "_" hold no cards.

    Args:
        package: an importable package; its sub-folders are searched too.
        card_type: the class of the cards.

    Raises:
        ModuleNotFoundError: there is no such package.
        InputError: a file holds no cards, or a fact has the wrong type.

    >>> names, families = read_cards("t2v_eval.backends", ModelCard)
    >>> {card.name: argument for card, argument in families}["hf-clip"]
    'checkpoint'
    """
    names: dict[str, CardEntry[C]] = {}
    families: dict[str, CardEntry[C]] = {}
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no package {package!r} that could hold cards")
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(folder.rglob("[!_]*.toml")):
            if not file.is_file():
                raise InputError(f"{file} is not a regular file")
            table = read_toml(file)
            beside = ".".join(file.relative_to(folder).with_suffix("").parts)
            module = f"{package}.{table.pop('module', beside)}"
            check_tables(table, file)
            shared = {k: v for k, v in table.items() if k not in TABLES}
            for name, facts in table.get("names", {}).items():
                card = make_card(name, {**shared, **facts}, module, file, card_type)
                names.setdefault(name, (card, ""))
            for name, facts in table.get("families", {}).items():
                family_facts = dict(facts)
                argument = family_facts.pop("argument", None)
                if not isinstance(argument, str):
                    raise InputError(
                        f"{file}: the family {name!r} lacks `argument`, the option that gets what "
                        "follows its colon"
                    )
                card = make_card(name, {**shared, **family_facts}, module, file, card_type)
                families[name] = (card, argument)
    return list(names.values()), list(families.values())


def make_card(
    name: str, table: Mapping[str, Any], module: str, file: Path | None, card_type: type[C]
) -> C:
    """Make a card of a table's keys; those that are no facts are arguments of its class.

    Args:
        name: its name.
        table: its keys and values, with `entry`.
        module: the module of `entry`.
        file: the file that holds the table; strings that start with "./" are files beside it.
        card_type: the class of the card.

    Raises:
        InputError: `entry` is missing, or a fact has the wrong type.

    >>> make_card("mine", {"entry": "Mine", "kind": "vqa", "scale": 2}, "m", None, ModelCard).args
    {'scale': 2}
    """
    types = facts_of(card_type)
    facts = {key: value for key, value in table.items() if key in types}
    folder = file.parent if file else None
    args = {key: _beside(value, folder) for key, value in table.items() if key not in types}
    if "entry" not in facts:
        raise InputError(f"the card of {name!r} ({file}) lacks `entry`, the class to build")
    for key, value in facts.items():
        words, fits = _KINDS[types[key]]
        if not fits(value) and not (key == "expects_size" and value is None):
            raise InputError(
                f"the card of {name!r} ({file}) has {key} = {value!r}, which must be {words}"
            )
    if facts.get("expects_size"):
        facts["expects_size"] = tuple(facts["expects_size"])
    return card_type(name=name, module=module, args=args, file=file, **facts)


def options_of(card: Card) -> set[str]:
    """Return the options that the class of a card takes, as far as is known.

    >>> options_of(Card("mine", entry="Mine", module="my_package.mine"))
    set()
    """
    takes = card.file and accepted(source_of(card.file, card.module), card.entry)
    return set(takes or ()) - {"card", "expected", "on_missing", "root", "subset"}


def check_keys(card: C) -> C:
    """Check that all keys of a card are facts or arguments of its class; return the card.

    Raises:
        InputError: a key is neither; the message names the nearest key that is.

    >>> check_keys(Card("mine", entry="Mine", module="my_package.mine")).name
    'mine'
    """
    if card.file is None:
        return card
    source = source_of(card.file, card.module)
    takes = accepted(source, card.entry)
    for key in card.args:
        if takes is not None and key not in takes:
            valid_keys = sorted({*facts_of(type(card)), *TABLES, *takes} - {"card"})
            close = difflib.get_close_matches(key, valid_keys, 1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"{card.entry} of {source} takes "
            hint += "" if close else ", ".join(sorted(takes - {"card"}))
            raise InputError(
                f"{card.file}: the card of {card.name!r} has the unknown key {key!r}; {hint}"
            )
    return card


def _beside(value: Any, folder: Path | None) -> Any:
    if folder is not None and isinstance(value, str) and value.startswith("./"):
        return str(folder / value[2:])
    return value
