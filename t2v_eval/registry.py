"""Cards and the registries of scorers and benchmarks.

A card is a name and its facts in a TOML file that lies beside the module it describes, which has
the file's name unless the file says `module = "folder.another"`, from the package on. A listing
reads the TOML and imports no module; `create` imports the one module it needs.

```toml
# backends/mine.toml
entry = "Mine"                           # a class in mine.py
kind = "preference"                      # top-level keys hold for every name in the file
[names.mine-v1]
summary = "CLIP ViT-H/14 fine-tuned on preferences of ours"
checkpoint = "someone/mine-v1"           # what is no fact of the card goes to the constructor
```

Strings that start with "./" name files beside the card. Packages of third parties ship the same
shape: an entry point of the registry's group whose value is a package that holds cards.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from t2v_eval.errors import InputError, MissingPackageError, T2VWarning, UnknownNameError
from t2v_eval.utils.signatures import accepted
from t2v_eval.utils.toml import read_toml

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Card:
    """A name and its facts.

    `kind` groups names in listings; `extra` is the pip extra that brings its packages, and
    `package` what pip calls the one it imports, where that has another name; `range` is the range
    of its values, higher always being better; `verified` says against what its numbers were
    checked; `caution` is told in every report when pictures have another size than `expects_size`.
    `default` marks the one that is taken of its kind when none is named, and `captions` the one
    that is taken for captions ("alone", or with "references").
    `remote` says that pictures are sent to a service, which may want money for it.
    `demo` says that the demonstration runs it, and `note` is said below its results. Of data,
    `size` says how much there is, `page` where it is and `obtain` how to get it; `files` may
    be fetched from `hub`, a data set of the Hugging Face hub, or from `url`, a folder of the web,
    and hold what `sha256` says; `folders` are names that a folder of it may have besides its own.
    A family that names `suffixes` takes a file of these endings by its path. `questions` gives
    names under which a template is asked for that differs between scorers, such as those of
    versions of another library, and the template of this one; `follows` is the name of those whose
    template it asks by default. `args` are keyword arguments of the constructor, and `file` is
    where the card is.
    """

    name: str
    entry: str
    module: str
    kind: str = ""
    summary: str = ""
    license: str = ""
    paper: str = ""
    range: str = ""
    verified: str = ""
    extra: str = ""
    package: str = ""
    differentiable: bool = False
    default: bool = False
    captions: str = ""
    expects_size: tuple[int, int] | None = None
    caution: str = ""
    note: str = ""
    demo: bool = False
    remote: bool = False
    size: str = ""
    page: str = ""
    obtain: str = ""
    hub: str = ""
    url: str = ""
    files: Sequence[str] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    folders: Sequence[str] = ()
    suffixes: Sequence[str] = ()
    published: Mapping[str, Any] = field(default_factory=dict)
    follows: str = ""
    questions: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, str]:
        """Every fact that is known, and what the constructor gets, for people to read."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        known |= known.pop("args")
        del known["entry"], known["module"], known["file"]
        return {name: str(fact) for name, fact in known.items() if fact or name == "differentiable"}


_FACTS = {f.name: str(f.type) for f in fields(Card)}
for _set_by_us in ("name", "module", "args", "file"):
    del _FACTS[_set_by_us]
# What a fact may be, by its type: how to say it, and how to tell.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "Sequence[str]": ("a list of texts", lambda value: _holds(value, str)),
    "Mapping[str, str]": (
        "a table of texts",
        lambda value: isinstance(value, Mapping) and _holds([*value.values()], str),
    ),
    "Mapping[str, Any]": ("a table", lambda value: isinstance(value, Mapping)),
    "tuple[int, int] | None": (
        "a list of two whole numbers",
        lambda value: _holds(value, int) and len(value) == 2,
    ),
}


class Registry(Generic[T]):
    """Names -> cards -> objects, for one package of cards and its third-party group.

    Args:
        what: what a message calls an entry, for example ``model``.
        package: the package whose cards come with the library; also the entry-point group.
    """

    def __init__(self, what: str, package: str) -> None:
        self.what = what
        self.package = package
        self._registered: dict[str, tuple[Card, Callable[..., T]]] = {}
        self._broken: dict[str, str] = {}  # package of a third party -> why its cards are not read

    def names(self, pattern: str = "*", kind: str = "*") -> list[str]:
        """All names that match a glob, for example ``hps*``; imports no backend."""
        return [
            card.name
            for card in self.cards.values()
            if fnmatch.fnmatch(card.name, pattern) and fnmatch.fnmatch(card.kind, kind)
        ]

    @property
    def cards(self) -> dict[str, Card]:
        """Every card by name.

        Raises:
            InputError: a card has a key that neither a card nor its class knows, or a fact of the
                wrong type.
        """
        return self._checked | {name: card for name, (card, _) in self._registered.items()}

    def conventions(self) -> list[str]:
        """The names under which cards name templates of their own, sorted."""
        return sorted({name for card in self._files.values() for name in card.questions})

    def card(self, name: str) -> Card:
        """The card of `name`; ``family:rest`` gives the card of a family with `rest` filled in.

        A path is the `rest` of the family whose `suffixes` it ends in.

        Raises:
            UnknownNameError: with the nearest names.
        """
        cards = self._files | {own: card for own, (card, _) in self._registered.items()}
        if name in cards:
            return _checked(cards[name])
        family, colon, rest = name.partition(":")
        if colon and rest and family in self._families and not self._mistyped(family, rest):
            card, argument = self._families[family]
            return replace(_checked(card), name=name, args={**card.args, argument: rest})
        for card, argument in self._families.values():
            if card.suffixes and name.lower().endswith(tuple(card.suffixes)):
                return replace(_checked(card), name=name, args={**card.args, argument: name})
        remedy = f"`t2v-eval list {self.what}s` lists them."
        if self._broken:
            lost = "; ".join(f"{package} ({why})" for package, why in self._broken.items())
            remedy += f" Those of some installed packages cannot be read: {lost}."
        raise UnknownNameError.nearest(self.what, name, cards, remedy)

    def _mistyped(self, family: str, rest: str) -> bool:
        """Whether `rest` is nearly that of a name which starts as the family's names do."""
        known = [
            name.partition(":")[2].lower() for name in self._files if name.startswith(f"{family}:")
        ]
        return bool(difflib.get_close_matches(rest.lower(), known, 1, cutoff=0.7))

    def default(self, kind: str) -> str:
        """The name that is taken of a kind when none is given.

        Raises:
            UnknownNameError: no card of this kind is marked as its default.
        """
        for card in self.cards.values():
            if card.kind == kind and card.default:
                return card.name
        raise UnknownNameError(
            f"no {self.what} of kind {kind!r} is marked as the default; name one"
        )

    def entry(self, name: str) -> Callable[..., T]:
        """What builds `name`: a class, of which nothing is loaded yet.

        Raises: as `create`.
        """
        card = self.card(name)
        if name in self._registered:
            return self._registered[name][1]
        return self._class(card)

    def create(self, name: str, **overrides: Any) -> T:
        """Build what `name` stands for; keyword arguments override the card's.

        Raises:
            UnknownNameError: no such name.
            MissingPackageError: a package it needs is not installed; the message says which.
            InputError: an argument its constructor does not take.
        """
        card, make = self.card(name), self.entry(name)
        given = {**card.args, **overrides}
        try:
            return make(card=card, **given)
        except TypeError as error:
            unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if unknown is None or unknown[1] not in given:  # a fault of ours, or of the class
                raise
            raise InputError(f"{self.what} {name!r} takes no option {unknown[1]!r}") from error

    def _class(self, card: Card) -> Callable[..., T]:
        """What builds a card's object; a package of a third party may be broken there too."""
        try:
            make: Callable[..., T] = getattr(_import(card), card.entry)
        except MissingPackageError:
            raise
        except Exception as error:
            if card.module.startswith(f"{self.package}."):
                raise
            raise InputError(
                f"{self.what} {card.name!r} cannot be made: {card.module}, of an installed "
                f"package, fails with {type(error).__name__}: {error}"
            ) from error
        return make

    def register(self, name: str, **facts: Any) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator: a class of your own under `name`, without a card file.

        The class is called with `card=` and the keyword arguments given to `create`.
        """

        def decorate(make: Callable[..., T]) -> Callable[..., T]:
            card = _card(name, {"entry": make.__name__, **facts}, make.__module__, None)
            self._registered[name] = (card, make)
            return make

        return decorate

    @cached_property
    def _packages(self) -> list[tuple[str, list[_Entry], list[_Entry]]]:
        """(package, its names, its families), ours first; a broken one of a third party has none.

        No package takes a name or a family that one before it has.
        """
        shipped = [(self.package, *_entries(self.package))]
        for point in self._entry_points():
            package = point.value.partition(":")[0].strip()
            if any(package == other for other, _, _ in shipped) or package in self._broken:
                continue  # the same package, declared twice
            try:
                names, families = _entries(package)
                for card, argument in (*names, *families):
                    _checked(replace(card, args={**card.args, argument: ""}) if argument else card)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever code of others raises
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
        """The entry points of the group, read one package at a time where all together fail."""
        try:
            return [*metadata.entry_points(group=self.package)]
        except Exception:
            found: list[metadata.EntryPoint] = []
        for one in metadata.distributions():
            try:
                found += one.entry_points.select(group=self.package)
            except Exception as error:
                folder = getattr(one, "_path", "an installed package")
                warnings.warn(
                    f"the entry points of {folder} cannot be read and are left out: "
                    f"{type(error).__name__}: {error}. Repair or uninstall it",
                    T2VWarning,
                    stacklevel=2,
                )
        return found

    def _free(
        self,
        package: str,
        names: list[_Entry],
        families: list[_Entry],
        before: list[tuple[str, list[_Entry], list[_Entry]]],
    ) -> tuple[list[_Entry], list[_Entry]]:
        """The names and families that no package before has, with a warning of the others."""
        known = {card.name: owner for owner, of, _ in reversed(before) for card, _ in of}
        kinds = {card.name: owner for owner, _, of in reversed(before) for card, _ in of}
        ours = {card.name for card, _ in before[0][2]}
        owners: dict[str, str] = {}
        for card, _ in names:
            family = card.name.partition(":")[0]
            if card.name in known:
                owners[card.name] = known[card.name]
            elif family != card.name and family in ours:  # it would stand for that checkpoint
                owners[card.name] = self.package
        owners |= {f"{card.name}:": kinds[card.name] for card, _ in families if card.name in kinds}
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
    def _files(self) -> dict[str, Card]:
        return {card.name: card for _, names, _ in self._packages for card, _ in names}

    @cached_property
    def _checked(self) -> dict[str, Card]:
        """The same, their keys compared with what their classes take; reads these sources once."""
        for card, argument in self._families.values():
            _checked(replace(card, args={**card.args, argument: ""}))
        return {name: _checked(card) for name, card in self._files.items()}

    @cached_property
    def _families(self) -> dict[str, tuple[Card, str]]:
        """`[families.some] argument = "checkpoint"`: any ``some:X`` is checkpoint X."""
        return {entry[0].name: entry for _, _, families in self._packages for entry in families}


_Entry = tuple[Card, str]  # a card, and of a family the argument that the rest of its name is


def _entries(package: str) -> tuple[list[_Entry], list[_Entry]]:
    """The names and the families that the card files of a package hold; imports no module.

    Files whose names begin with "_" are no cards'.
    """
    names: dict[str, _Entry] = {}
    families: dict[str, _Entry] = {}
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"there is no package {package!r} that could hold cards")
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(folder.rglob("[!_]*.toml")):
            if not file.is_file():
                raise InputError(f"{file} is no regular file")
            table = read_toml(file)
            beside = ".".join(file.relative_to(folder).with_suffix("").parts)
            module = f"{package}.{table.pop('module', beside)}"
            _check_tables(table, file)
            shared = {k: v for k, v in table.items() if k not in _TABLES}
            for name, facts in table.get("names", {}).items():
                names.setdefault(name, (_card(name, {**shared, **facts}, module, file), ""))
            for name, facts in table.get("families", {}).items():
                own = dict(facts)
                argument = own.pop("argument", None)
                if not isinstance(argument, str):
                    raise InputError(
                        f"{file}: the family {name!r} lacks `argument`, the option that gets what "
                        "follows its colon"
                    )
                families[name] = (_card(name, {**shared, **own}, module, file), argument)
    return list(names.values()), list(families.values())


_TABLES = ("names", "families")
_NAME, _FAMILY = (
    r"\w[\w.:/@+-]*",
    r"\w[\w.+-]*",
)  # nothing that a pattern, a terminal or a path reads
_FORMS = {
    "names": "a name is of letters, digits and . : / @ + - _",
    "families": "a name is of letters, digits and . + - _",
}


def _check_tables(table: Mapping[str, Any], file: Path) -> None:
    """Hold that a card file has cards, each of them a table."""
    if not any(key in table for key in _TABLES):
        raise InputError(f"{file} holds no card: a card is a table [names.NAME] or [families.NAME]")
    for key, form in (("names", _NAME), ("families", _FAMILY)):
        of = table.get(key, {})
        if not isinstance(of, Mapping) or not all(isinstance(f, Mapping) for f in of.values()):
            raise InputError(f"{file}: {key} must hold tables, one [{key}.NAME] for each name")
        for name, facts in of.items():
            if not re.fullmatch(form, name):
                raise InputError(f"{file}: {name!r} cannot be one of the {key}: {_FORMS[key]}")
            ends = facts.get("suffixes", table.get("suffixes", []))
            for end in ends if _holds(ends, str) else ():
                if not re.fullmatch(r"\.\w[\w.-]*", end):
                    raise InputError(
                        f"{file}: {name!r} takes no ending {end!r}: it needs a full stop"
                    )


def _card(name: str, table: Mapping[str, Any], module: str, file: Path | None) -> Card:
    facts = {key: value for key, value in table.items() if key in _FACTS}
    folder = file.parent if file else None
    args = {key: _beside(value, folder) for key, value in table.items() if key not in _FACTS}
    if "entry" not in facts:
        raise InputError(f"the card of {name!r} ({file}) lacks `entry`, the class to build")
    for key, value in facts.items():
        words, fits = _KINDS[_FACTS[key]]
        if not fits(value) and not (key == "expects_size" and value is None):
            raise InputError(
                f"the card of {name!r} ({file}) has {key} = {value!r}, which must be {words}"
            )
    if facts.get("expects_size"):
        facts["expects_size"] = tuple(facts["expects_size"])
    return Card(name=name, module=module, args=args, file=file, **facts)


def _holds(value: Any, kind: type) -> bool:
    """Whether a value is a list of this type; True is no number."""
    return isinstance(value, (list, tuple)) and all(type(one) is kind for one in value)


def source_of(card: Card) -> Path:
    """The file of a card's module, found from the card's own without an import."""
    assert card.file is not None
    folders = card.module.split(".")
    for folder in card.file.parents:
        if folder.name in folders[:-1]:
            inner = folders[folders.index(folder.name) + 1 :]
            return folder.joinpath(*inner[:-1], f"{inner[-1]}.py")
    return card.file.with_name(f"{folders[-1]}.py")


def _checked(card: Card) -> Card:
    """The card, whose keys are facts or arguments of its class, as far as its source says.

    Raises:
        InputError: a key is neither; the message names the nearest that is.
    """
    if card.file is None:
        return card
    source = source_of(card)
    takes = accepted(source, card.entry)
    for key in card.args:
        if takes is not None and key not in takes:
            known = sorted({*_FACTS, *_TABLES, *takes} - {"card"})
            close = difflib.get_close_matches(key, known, 1, cutoff=0.5)
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


models: Registry[Any] = Registry("model", "t2v_eval.backends")
benchmarks: Registry[Any] = Registry("benchmark", "t2v_eval.benchmarks")
