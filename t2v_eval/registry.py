"""Cards of scorers and benchmarks, and the registries that find them.

A card is a name and its facts in a TOML file beside the module it describes. The module has the
file's name, unless the file says `module = "folder.another"`, relative to the package. Listings
read the TOML and import no module; `create` imports the one it needs.

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
import fnmatch
import importlib
import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from t2v_eval.errors import InputError, MissingPackageError, T2VWarning, UnknownNameError
from t2v_eval.utils.arguments import file_endings, unknown_argument, wrong_type
from t2v_eval.utils.card_tables import TABLES, check_tables, holds, read_refused
from t2v_eval.utils.signatures import accepted, source_of
from t2v_eval.utils.toml import read_toml

T = TypeVar("T")


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
        facts["known_answers"] = ", ".join(facts.get("known_answers", ()))
        del facts["entry"], facts["module"], facts["file"]
        return {name: str(fact) for name, fact in facts.items() if fact or name == "differentiable"}


@dataclass(frozen=True, slots=True)
class ModelCard(Card):
    """The card of a scorer.

    Attributes:
        range: range of its scores; higher is better.
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
        networks: families of networks that it was trained from, where its name does not say so: a
            generator that was guided with one of them is not judged independently.
        expects_config: values of the published config.json by their dotted names.
        known_answers: numbers that are published for images, by name; see `verification.known`.

    >>> ModelCard("mine", "Mine", "my_package.mine", range="0 to 1").range
    '0 to 1'
    """

    range: str = ""
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
    networks: Sequence[str] = ()
    expects_config: Mapping[str, Any] = field(default_factory=dict)
    known_answers: Mapping[str, Any] = field(default_factory=dict)


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
        published: published metrics, which reports show beside measured ones.
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
    published: Mapping[str, Any] = field(default_factory=dict)
    orders_pairs: str = ""
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


C = TypeVar("C", bound=Card)


def _facts(card_type: type[Card]) -> dict[str, str]:
    """Return the types of the facts that a TOML file may set, by name."""
    computed = ("name", "module", "args", "file")
    return {f.name: str(f.type) for f in fields(card_type) if f.name not in computed}


# Types of facts: their description in messages, and a check.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "Sequence[str]": ("a list of texts", lambda value: holds(value, str)),
    "Mapping[str, str]": (
        "a table of texts",
        lambda value: isinstance(value, Mapping) and holds([*value.values()], str),
    ),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, Mapping)),
    "tuple[int, int] | None": (
        "a list of two whole numbers",
        lambda value: holds(value, int) and len(value) == 2,
    ),
}


class Registry(Generic[T, C]):
    """Names, their cards and the objects they stand for.

    Args:
        what: what messages call an entry, for example ``model``.
        package: the package whose cards come with the library; also the entry-point group.
        card_type: the class of its cards.

    >>> registry = Registry("model", "t2v_eval.backends", ModelCard)
    >>> @registry.register("mine", kind="vqa", level=2)
    ... def make_mine(card, level):
    ...     return card.name, level
    >>> registry.create("mine"), registry.create("mine", level=3)
    (('mine', 2), ('mine', 3))
    """

    def __init__(self, what: str, package: str, card_type: type[C]) -> None:
        self.what = what
        self.package = package
        self.card_type = card_type
        self._registered: dict[str, tuple[C, Callable[..., T]]] = {}
        self._broken: dict[str, str] = {}  # package of a third party -> why its cards are not read

    def names(self, pattern: str = "*", kind: str = "*") -> list[str]:
        """Return the names that match a glob, for example ``hps*``; no backend is imported."""
        for argument, glob in (("pattern", pattern), ("kind", kind)):
            if not isinstance(glob, str):
                raise wrong_type(argument, glob, "a glob, as a text")
        cards = [card for card in self.cards.values() if fnmatch.fnmatch(card.kind, kind)]
        return [card.name for card in cards if fnmatch.fnmatch(card.name, pattern)]

    @property
    def cards(self) -> dict[str, C]:
        """Every card by name.

        Raises:
            InputError: a card has a key that neither a card nor its class knows, or a fact of the
                wrong type.
        """
        return self._checked | {name: card for name, (card, _) in self._registered.items()}

    @property
    def families(self) -> list[C]:
        """Return the cards of families, each of many names or files."""
        return [card for card, _ in self._families.values()]

    def conventions(self) -> list[str]:
        """Return the sorted names of templates that differ between scorers (`questions`)."""
        return sorted({q for card in self._files.values() for q in getattr(card, "questions", ())})

    def card(self, name: str | os.PathLike[str]) -> C:
        """Return the card of a name, or of a file.

        ``family:rest`` is the card of a family with `rest` filled in, and so is a path that ends
        in one of the family's `suffixes`, with or without ``:name`` behind it.

        Raises:
            InputError: the name is no text.
            UnknownNameError: no such name; the message lists the nearest ones.
        """
        name = os.fspath(name) if isinstance(name, os.PathLike) else name
        if not isinstance(name, str):
            raise wrong_type(self.what, name, "a name, as a text")
        cards = self._files | {key: card for key, (card, _) in self._registered.items()}
        if name in cards:
            return _checked(cards[name])
        family, colon, rest = name.partition(":")
        if colon and rest and family in self._families and not self._mistyped(family, rest):
            card, argument = self._families[family]
            return replace(_checked(card), name=name, args={**card.args, argument: rest})
        for card, argument in self._families.values():
            if card.suffixes and re.sub(r":\w*$", "", name).lower().endswith((*card.suffixes,)):
                return replace(_checked(card), name=name, args={**card.args, argument: name})
        several = name.split(",")
        if len(several) > 1 and all(part.strip() in cards for part in several):
            argument = {"model": "scorers", "benchmark": "benchmarks"}[self.what]
            parts = [part.strip() for part in several]
            raise UnknownNameError(
                f"there is no {self.what} called {name!r}: pass each name, `{argument}={parts}`"
            )
        if name in self._refused:
            raise UnknownNameError(f"the {self.what} {name!r} {self._refused[name]}")
        ends = [end for family in self.families for end in family.suffixes]
        remedy = f"`t2v-eval list {self.what}s` lists them{file_endings(name, ends)}."
        if self._broken:
            lost = "; ".join(f"{package} ({why})" for package, why in self._broken.items())
            remedy += f" Those of some installed packages cannot be read: {lost}."
        raise UnknownNameError.nearest(self.what, name, cards, remedy)

    def _mistyped(self, family: str, rest: str) -> bool:
        """Return whether `rest` is close to that of a name that starts with the family."""
        rests = [
            name.partition(":")[2].lower() for name in self._files if name.startswith(f"{family}:")
        ]
        return bool(difflib.get_close_matches(rest.lower(), rests, 1, cutoff=0.7))

    def default(self, kind: str) -> str:
        """Return the default name of a kind.

        Raises:
            UnknownNameError: no card of this kind is marked as its default.
        """
        for card in self.cards.values():
            if card.kind == kind and getattr(card, "default", False):
                return card.name
        raise UnknownNameError(f"no {self.what} of kind {kind!r} is marked as the default: name it")

    def entry(self, card: C) -> Callable[..., T]:
        """Import and return the class or function that builds a card's object.

        Raises:
            MissingPackageError: a package it needs is not installed; the message says which.
            InputError: the module of a third-party package fails.
        """
        if card.name in self._registered:
            return self._registered[card.name][1]
        return self._class(card)

    def build(self, card: C, **overrides: Any) -> T:
        """Build the object of a card.

        Args:
            card: a card, as `card` returns it.
            overrides: keyword arguments, which take precedence over the card's.

        Raises:
            MissingPackageError: a package it needs is not installed; the message says which.
            InputError: an argument that its constructor does not take.
        """
        make = self.entry(card)
        arguments = {**card.args, **overrides}
        try:
            return make(card=card, **arguments)
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unknown is None or unknown[1] not in arguments:  # raised inside the class
                raise
            more = f"; `t2v-eval list {self.what}s {card.name}` shows what is known of it"
            taker, takes = f"{self.what} {card.name!r}", _options(card)
            raise InputError(unknown_argument(taker, unknown[1], takes, more)) from error

    def create(self, name: str, **overrides: Any) -> T:
        """Build the object of a name; see `card` and `build`."""
        return self.build(self.card(name), **overrides)

    def _class(self, card: C) -> Callable[..., T]:
        """Import the entry of a card; an error in a third-party package is an InputError."""
        try:
            make: Callable[..., T] = getattr(_import(card), card.entry)
        except MissingPackageError:
            raise
        except Exception as error:  # code of another package may raise anything
            if card.module.startswith(f"{self.package}."):
                raise
            raise InputError(
                f"{self.what} {card.name!r} cannot be built: {card.module}, of an installed "
                f"package, fails with {type(error).__name__}: {error}"
            ) from error
        return make

    def register(self, name: str, **facts: Any) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Return a decorator that registers a class under `name`, without a card file.

        The class is called with `card=` and the keyword arguments of `create`.

        Args:
            name: the name.
            facts: facts of the card; others are arguments of the class.
        """

        def decorate(make: Callable[..., T]) -> Callable[..., T]:
            card = _card(
                name, {"entry": make.__name__, **facts}, make.__module__, None, self.card_type
            )
            self._registered[name] = (card, make)
            return make

        return decorate

    @cached_property
    def _packages(self) -> list[tuple[str, list[_Entry[C]], list[_Entry[C]]]]:
        """Packages with their names and families, this library first, broken packages left out.

        A package cannot take a name or family of one before it.
        """
        shipped = [(self.package, *_entries(self.package, self.card_type))]
        for point in self._entry_points():
            package = point.value.partition(":")[0].strip()
            if any(package == other for other, _, _ in shipped) or package in self._broken:
                continue  # the same package, declared twice
            try:
                names, families = _entries(package, self.card_type)
                for card, argument in (*names, *families):
                    _checked(replace(card, args={**card.args, argument: ""}) if argument else card)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # third-party code may raise anything
                self._broken[package] = f"{type(error).__name__}: {error}"
                warnings.warn(
                    f"the {self.what}s of the installed package {package!r} cannot be read and "
                    f"are left out: {self._broken[package]}. Repair or uninstall it",
                    T2VWarning,
                    stacklevel=2,
                )
            else:
                shipped.append((package, *self._free(package, names, families, shipped)))
        return shipped

    def _entry_points(self) -> list[metadata.EntryPoint]:
        """Return the entry points of the group, read package by package if all together fail."""
        try:
            return [*metadata.entry_points(group=self.package)]
        except Exception:  # metadata of an installed package may be damaged in any way
            points: list[metadata.EntryPoint] = []
        for distribution in metadata.distributions():
            try:
                points += distribution.entry_points.select(group=self.package)
            except Exception as error:  # the damaged package alone is left out
                folder = getattr(distribution, "_path", "an installed package")
                warnings.warn(
                    f"the entry points of {folder} cannot be read and are left out: "
                    f"{type(error).__name__}: {error}. Repair or uninstall it",
                    T2VWarning,
                    stacklevel=2,
                )
        return points

    def _free(
        self,
        package: str,
        names: list[_Entry[C]],
        families: list[_Entry[C]],
        before: list[tuple[str, list[_Entry[C]], list[_Entry[C]]]],
    ) -> tuple[list[_Entry[C]], list[_Entry[C]]]:
        """Return the names and families that no package before has; warn of the others."""
        name_owners = {c.name: owner for owner, cards, _ in reversed(before) for c, _ in cards}
        family_owners = {c.name: owner for owner, _, cards in reversed(before) for c, _ in cards}
        shipped_families = {card.name for card, _ in before[0][2]}
        owners: dict[str, str] = {}
        for card, _ in names:
            family = card.name.partition(":")[0]
            if card.name in name_owners:
                owners[card.name] = name_owners[card.name]
            elif family != card.name and family in shipped_families:
                owners[card.name] = self.package  # it would stand for that checkpoint
        owners |= {
            f"{card.name}:": family_owners[card.name]
            for card, _ in families
            if card.name in family_owners
        }
        for name, owner in owners.items():
            warnings.warn(
                f"the installed package {package!r} has a {self.what} {name!r}, which is that of "
                f"{owner!r} and stays so: uninstall one of them, or have it renamed",
                T2VWarning,
                stacklevel=2,
            )
        return (
            [entry for entry in names if entry[0].name not in owners],
            [entry for entry in families if f"{entry[0].name}:" not in owners],
        )

    @cached_property
    def _files(self) -> dict[str, C]:
        return {card.name: card for _, names, _ in self._packages for card, _ in names}

    @cached_property
    def _checked(self) -> dict[str, C]:
        """Cards whose keys were checked against their classes; reads each source file once."""
        for card, argument in self._families.values():
            _checked(replace(card, args={**card.args, argument: ""}))
        return {name: _checked(card) for name, card in self._files.items()}

    @cached_property
    def _families(self) -> dict[str, tuple[C, str]]:
        """Families: with ``argument = "checkpoint"``, ``family:X`` is checkpoint X."""
        return {entry[0].name: entry for _, _, families in self._packages for entry in families}

    @cached_property
    def _refused(self) -> dict[str, Any]:
        """Names that other packages have, and in a sentence why they are none here."""
        return read_refused(self.package)


_Entry: TypeAlias = tuple[C, str]  # a card; of a family also the argument that gets its rest


def _entries(package: str, card_type: type[C]) -> tuple[list[_Entry[C]], list[_Entry[C]]]:
    """Return the names and the families in the card files of a package; import no module.

    TOML files whose names begin with "_" hold no cards.
    """
    names: dict[str, _Entry[C]] = {}
    families: dict[str, _Entry[C]] = {}
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
                card = _card(name, {**shared, **facts}, module, file, card_type)
                names.setdefault(name, (card, ""))
            for name, facts in table.get("families", {}).items():
                family_facts = dict(facts)
                argument = family_facts.pop("argument", None)
                if not isinstance(argument, str):
                    raise InputError(
                        f"{file}: the family {name!r} lacks `argument`, the option that gets what "
                        "follows its colon"
                    )
                card = _card(name, {**shared, **family_facts}, module, file, card_type)
                families[name] = (card, argument)
    return list(names.values()), list(families.values())


def _card(
    name: str, table: Mapping[str, Any], module: str, file: Path | None, card_type: type[C]
) -> C:
    types = _facts(card_type)
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


def _options(card: Card) -> set[str]:
    """Return the options that the class of a card takes, as far as is known."""
    takes = card.file and accepted(source_of(card.file, card.module), card.entry)
    return set(takes or ()) - {"card", "expected", "on_missing", "root", "subset"}


def _checked(card: C) -> C:
    """Check that all keys of a card are facts or arguments of its class; return the card.

    Raises:
        InputError: a key is neither; the message names the nearest key that is.
    """
    if card.file is None:
        return card
    source = source_of(card.file, card.module)
    takes = accepted(source, card.entry)
    for key in card.args:
        if takes is not None and key not in takes:
            valid_keys = sorted({*_facts(type(card)), *TABLES, *takes} - {"card"})
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


def _import(card: Card) -> Any:
    try:
        return importlib.import_module(card.module)
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == card.module.partition(".")[0]:
            raise
        remedy = f"'t2v-eval[{card.extra}]'" if card.extra else missing
        raise MissingPackageError(
            f"{card.name!r} needs the package {card.package or missing!r}: pip install {remedy}"
        ) from error


models: Registry[Any, ModelCard] = Registry("model", "t2v_eval.backends", ModelCard)
benchmarks: Registry[Any, BenchmarkCard] = Registry(
    "benchmark", "t2v_eval.benchmarks", BenchmarkCard
)
