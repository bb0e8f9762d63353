"""What a scorer would read from the Hugging Face hub, before gigabytes are downloaded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.errors import CheckpointError, T2VError
from t2v_eval.local.dry_loading import (
    WEIGHT_SUFFIXES,
    Request,
    WeightsReachedError,
    stopping_at_weights,
)
from t2v_eval.local.weights import HUB_FILES, hub_errors, locate
from t2v_eval.verification.results import Check, Outcome, Verification
from t2v_eval.verification.weights import listed

LARGEST = 2**26  # bytes of a file that describes a model; larger ones are not downloaded
LOADER, DISK = "files that the scorer reads", "free disk"
GIGABYTE = 1e9
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository.

    Attributes:
        commit: the commit that was listed.
        sizes: bytes of each file by its path.

    >>> Listing("c0ffee", {"config.json": 600}).sizes["config.json"]
    600
    """

    commit: str
    sizes: Mapping[str, int]


class Hub(Protocol):
    """A hub of repositories.

    >>> hub: Hub = HuggingFace()
    """

    def listing(self, repository: str, revision: str | None) -> Listing:
        """Return the files of a repository."""

    def download(self, repository: str, file: str, commit: str, folder: Path) -> None:
        """Download a file into a folder."""

    def is_cached(self, repository: str, file: str, commit: str) -> bool:
        """Return whether a file is on this machine."""


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """The Hugging Face hub, or a server with its interface.

    Attributes:
        endpoint: its address; by default that of the hub, or $HF_ENDPOINT.
        cache_dir: the folder of files that were downloaded; by default that of the hub's client.

    >>> HuggingFace().endpoint is None
    True
    """

    endpoint: str | None = None
    cache_dir: str | None = None

    def listing(self, repository: str, revision: str | None) -> Listing:
        """Return the files of a repository.

        Raises:
            CheckpointError: the hub was not reached, or has no such repository.
        """
        with hub_errors(repository):
            info = HfApi(self.endpoint).model_info(
                repository, revision=revision, files_metadata=True
            )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        return Listing(info.sha or "", sizes)

    def download(self, repository: str, file: str, commit: str, folder: Path) -> None:
        """Download a file into a folder.

        Raises:
            CheckpointError: the hub was not reached.
        """
        with hub_errors(repository):
            hf_hub_download(
                repository, file, revision=commit, local_dir=folder, endpoint=self.endpoint
            )

    def is_cached(self, repository: str, file: str, commit: str) -> bool:
        """Return whether a file of a commit is on this machine."""
        cached = try_to_load_from_cache(repository, file, self.cache_dir, commit)
        return isinstance(cached, str)


@dataclass
class HubReader:
    """Provides what a scorer asks for: small files as they are, others empty.

    Attributes:
        hub: where the files are.
        folder: where they are put.
        listings: the repositories that were asked for.
        read: the files of each repository that match what was asked for.
        urls: files that lie elsewhere.

    >>> HubReader(HuggingFace(), Path("nowhere")).urls
    []
    """

    hub: Hub
    folder: Path
    listings: dict[str, Listing] = field(default_factory=dict)
    read: dict[str, set[str]] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)

    def fetch(self, request: Request) -> Path:
        """Return the folder, or the file, of a request.

        Raises:
            CheckpointError: the hub was not reached, or has no such repository.
        """
        if request.source.startswith("https://"):
            self.urls.append(request.source)
            file = self.folder / "urls" / request.source.rpartition("/")[2]
            file.parent.mkdir(exist_ok=True)
            file.touch()
            return file
        if request.source not in self.listings:
            self.listings[request.source] = self.hub.listing(request.source, request.revision)
        listing = self.listings[request.source]
        folder = self.folder / request.source.replace("/", "--")
        folder.mkdir(exist_ok=True)
        listed_before = self.read.setdefault(request.source, set())
        for name in sorted(set(_matching(listing.sizes, request.patterns)) - listed_before):
            listed_before.add(name)
            self._provide(request.source, name, listing, folder)
        return folder

    def _provide(self, repository: str, name: str, listing: Listing, folder: Path) -> None:
        if Path(name).suffix in WEIGHT_SUFFIXES or listing.sizes[name] > LARGEST:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        else:
            self.hub.download(repository, name, listing.commit, folder)


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def check_hub(
    card: ModelCard, options: ScorerOptions | None = None, hub: Hub | None = None
) -> Verification:
    """Compare what a scorer reads with what is on the hub; load it up to its weights.

    So its configuration, its index of shards and, where it reads them first, its tokenizer are
    checked too. Only files that describe a model are downloaded, to a temporary folder.

    Args:
        card: the card of the scorer.
        options: the options to load it with.
        hub: where the files are; by default the Hugging Face hub.

    >>> from t2v_eval.registry import models
    >>> check_hub(models.card("tiny-clip")).checks[0].text
    'every file is on this machine'
    """
    options, hub = replace(options or ScorerOptions(), store=None), hub or HuggingFace()
    if options.asks_service(card):
        return Verification(card.name, [Check.without(LOADER, "a service has no weights")])
    with TemporaryDirectory() as folder:
        reader = HubReader(hub, Path(folder))
        checks = [_loader_check(card, options, reader, folder)]
        if checks[0].outcome is Outcome.passed:
            for source in _named_sources(card):
                if source not in reader.listings and source not in reader.urls:
                    reader.fetch(Request(source, HUB_FILES))
    needed = 0
    for repository in reader.listings:
        check, size = _repository_check(reader, repository)
        checks.append(check)
        needed += size
    checks += [
        Check(url, Outcome.measured, "is not on the hub, so its size is unknown")
        for url in reader.urls
    ]
    if reader.listings:
        checks.append(_disk_check(needed))
    return Verification(card.name, checks)


def _loader_check(card: ModelCard, options: ScorerOptions, reader: HubReader, folder: str) -> Check:
    """Load the scorer from the files of the hub, up to its weights."""
    try:
        with stopping_at_weights(reader):
            options.load(card)
    except WeightsReachedError as reached:
        if not reader.listings and not reader.urls:
            return Check.of(LOADER, True, "every file is on this machine")
        file = str(reached).replace(f"{folder}/", "")
        return Check.of(LOADER, True, f"the files before {file} are in order")
    except T2VError as error:
        return Check.of(LOADER, False, str(error).replace(f"{folder}/", ""))
    return Check.of(LOADER, True, "it reads no weights")


def _named_sources(card: ModelCard) -> list[str]:
    """Return the hub ids and URLs among the arguments of a card."""
    texts = [value for value in card.args.values() if isinstance(value, str)]
    return [v for v in texts if v.startswith("https://") or _HUB_ID.fullmatch(v)]


def _repository_check(reader: HubReader, repository: str) -> tuple[Check, int]:
    """Return what there is to download of a repository, and its bytes."""
    listing, read = reader.listings[repository], reader.read[repository]
    cached = {name for name in read if reader.hub.is_cached(repository, name, listing.commit)}
    size = sum(listing.sizes[name] for name in read - cached)
    text = f"{len(read)} of {len(listing.sizes)} files, {size / GIGABYTE:.2f} GB to download"
    if cached:
        text += f", {sum(listing.sizes[n] for n in cached) / GIGABYTE:.2f} GB are on this machine"
    if unread := [n for n in listing.sizes if Path(n).suffix in WEIGHT_SUFFIXES and n not in read]:
        text += f"; other weights there, which are not read: {listed(sorted(unread))}"
    name = f"{repository} at {listing.commit[:12]}"
    return Check(name, Outcome.measured, text, size / GIGABYTE), size


def _disk_check(needed: int) -> Check:
    cache = Path(constants.HF_HUB_CACHE)
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / GIGABYTE:.1f} GB are free in {cache}, {needed / GIGABYTE:.2f} GB are needed"
    return Check.of(DISK, free > needed, text, free / GIGABYTE)


def is_local(card: ModelCard) -> bool:
    """Return whether all weights of a card are on this machine; nothing is downloaded.

    >>> from t2v_eval.registry import models
    >>> is_local(models.card("tiny-clip"))
    True
    """
    local: dict[str, Any] = {"local_files_only": True}
    options = ScorerOptions(specific=local)
    if options.asks_service(card):
        return False
    try:
        with stopping_at_weights():
            options.load(card)
    except WeightsReachedError:
        return _are_local(_named_sources(card))
    except T2VError:
        return False
    return False


def _are_local(sources: Iterable[str]) -> bool:
    try:
        for source in sources:
            locate(source, local_files_only=True)
    except CheckpointError:
        return False
    return True
