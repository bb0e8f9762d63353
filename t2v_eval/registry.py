"""Registries of scorers and benchmarks: they find cards by name and build their objects."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from inspect import Parameter, signature
from typing import Any, Generic, TypeVar

from t2v_eval.cards import (
    BenchmarkCard,
    C,
    Card,
    CardEntry,
    ModelCard,
    check_keys,
    make_card,
    options_of,
    read_cards,
)
from t2v_eval.errors import InputError, MissingPackageError, T2VWarning, UnknownNameError
from t2v_eval.utils.arguments import file_endings, unknown_argument, wrong_type
from t2v_eval.utils.card_tables import read_refused

T = TypeVar("T")


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
        name = name if name in cards else self._aliases.get(name, name)
        if name in cards:
            return check_keys(cards[name])
        family, colon, rest = name.partition(":")
        if colon and rest and family in self._families and not self._mistyped(family, rest):
            card, argument = self._families[family]
            return replace(check_keys(card), name=name, args={**card.args, argument: rest})
        for card, argument in self._families.values():
            if card.suffixes and re.sub(r":\w*$", "", name).lower().endswith((*card.suffixes,)):
                return replace(check_keys(card), name=name, args={**card.args, argument: name})
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
        is_new = colon and rest and family not in self._families
        near = [f"{prefix}:{rest}" for prefix in self._families if is_new]
        raise UnknownNameError.nearest(self.what, name, [*near, *cards], remedy)

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
        more = f"; `t2v-eval list {self.what}s {card.name}` shows what is known of it"
        taker = f"{self.what} {card.name!r}"
        try:
            return make(card=card, **arguments)
        except TypeError as error:
            unknown = _unknown_option(error)
            if unknown not in arguments:  # raised inside the class
                raise
            raise InputError(unknown_argument(taker, unknown, options_of(card), more)) from error
        except InputError as error:
            # A composed scorer hands the options that it does not know to the scorer within.
            unknown = _unknown_option(error.__cause__)
            takes = _named_options(make) if unknown in overrides else []
            if not difflib.get_close_matches(unknown, takes, 1, 0.8):
                raise
            raise InputError(unknown_argument(taker, unknown, takes, more)) from error

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
            card = make_card(
                name, {"entry": make.__name__, **facts}, make.__module__, None, self.card_type
            )
            self._registered[name] = (card, make)
            return make

        return decorate

    @cached_property
    def _packages(self) -> list[tuple[str, list[CardEntry[C]], list[CardEntry[C]]]]:
        """Packages with their names and families, this library first, broken packages left out.

        A package cannot take a name or family of one before it.
        """
        shipped = [(self.package, *read_cards(self.package, self.card_type))]
        for point in self._entry_points():
            package = point.value.partition(":")[0].strip()
            if any(package == other for other, _, _ in shipped) or package in self._broken:
                continue  # the same package, declared twice
            try:
                names, families = read_cards(package, self.card_type)
                for card, argument in (*names, *families):
                    check_keys(
                        replace(card, args={**card.args, argument: ""}) if argument else card
                    )
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
        names: list[CardEntry[C]],
        families: list[CardEntry[C]],
        before: list[tuple[str, list[CardEntry[C]], list[CardEntry[C]]]],
    ) -> tuple[list[CardEntry[C]], list[CardEntry[C]]]:
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
    def _aliases(self) -> dict[str, str]:
        """Other names of cards, and the card's; those of an earlier package come first."""
        return {
            alias: card.name
            for card in reversed(self._files.values())
            for alias in getattr(card, "aliases", ())
        }

    @cached_property
    def _checked(self) -> dict[str, C]:
        """Cards whose keys were checked against their classes; reads each source file once."""
        for card, argument in self._families.values():
            check_keys(replace(card, args={**card.args, argument: ""}))
        return {name: check_keys(card) for name, card in self._files.items()}

    @cached_property
    def _families(self) -> dict[str, tuple[C, str]]:
        """Families: with ``argument = "checkpoint"``, ``family:X`` is checkpoint X."""
        return {entry[0].name: entry for _, _, families in self._packages for entry in families}

    @cached_property
    def _refused(self) -> dict[str, Any]:
        """Names that other packages have, and in a sentence why they are none here."""
        return read_refused(self.package)


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


def _unknown_option(error: BaseException | None) -> str:
    """Return the keyword argument that a call did not take; empty for other errors."""
    named = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return named[1] if isinstance(error, TypeError) and named else ""


def _named_options(make: Callable[..., Any]) -> list[str]:
    """Return the keyword arguments that a class or function names itself."""
    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    parameters = signature(make).parameters.values()
    return [p.name for p in parameters if p.kind in named and p.name != "card"]
