"""Known answers: numbers that the authors of a scorer print for images that anyone can fetch.

A card holds them (`known_answers`): images by URL with the sha256 of their content, texts, the
numbers, how these follow from scores, and where they are printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.urls import AllowUrls, download
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.utils.files import replacing
from t2v_eval.verification.results import Check
from t2v_eval.verification.scores import quiet

Numbers = NDArray[np.float64]


def _softmax(scores: Numbers) -> Numbers:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


RULES: Mapping[str, Callable[[Numbers], Numbers]] = {
    "scores": lambda scores: scores,
    "softmax": _softmax,
    "mean of pairs": lambda scores: np.array([np.trace(scores) / len(scores)]),
    "difference": lambda scores: scores[:, :1] - scores[:, 1:],
}
"""How published numbers follow from (M, N) scores: unchanged, by softmax over the texts, as the
mean of image i with text i, or as the first text less each other one."""


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """Numbers that are published for images and texts.

    Attributes:
        name: its name in the card.
        images: the URLs of M images.
        texts: N texts.
        expected: the published numbers, in the shape that `rule` gives.
        tolerance: the largest difference that is allowed.
        source: where the numbers are printed.
        rule: how they follow from the scores; a name of `RULES`.
        scale: what scores are multiplied by first, as 100 of a cosine.
        sha256: the hashes of the images; "" for an image whose hash is not known.
        references: reference captions of each image, for scorers that use them.
        checkpoint: the weights that they hold for, where those are not the card's own.

    >>> answer = KnownAnswer("readme", ["https://example.org/a.png"], ["a cat"], [[0.3]], 0.01, "")
    >>> answer.difference(np.array([[0.302]])) <= answer.tolerance
    True
    """

    name: str
    images: Sequence[str]
    texts: Sequence[str]
    expected: Any
    tolerance: float
    source: str
    rule: str = "scores"
    scale: float = 1.0
    sha256: Sequence[str] = ()
    references: Sequence[Sequence[str]] | None = None
    checkpoint: str = ""

    def difference(self, scores: Numbers) -> float:
        """Return the largest difference between the published numbers and those of these scores.

        Args:
            scores: (M, N) scores.
        """
        return float(np.abs(self.numbers(scores) - np.array(self.expected)).max())

    def numbers(self, scores: Numbers) -> Numbers:
        """Return the numbers of (M, N) scores that compare with the published ones."""
        return RULES[self.rule](scores * self.scale)


def known_answers(card: ModelCard) -> list[KnownAnswer]:
    """Return the known answers of a card that hold for its weights.

    Raises:
        InputError: the card lacks a field, or has one that does not exist.

    >>> from t2v_eval.registry import models
    >>> known_answers(models.card("tiny-clip"))
    []
    """
    answers = [_read(card, name, table) for name, table in card.known_answers.items()]
    checkpoint = str(card.args.get("checkpoint", ""))
    return [answer for answer in answers if answer.checkpoint in ("", checkpoint)]


def _read(card: ModelCard, name: str, table: Any) -> KnownAnswer:
    where = f"{card.file}: known_answers.{name} of {card.name!r}"
    names = {f.name for f in fields(KnownAnswer)} - {"name"}
    if not isinstance(table, Mapping) or (others := table.keys() - names):
        raise InputError(f"{where} is no table of {', '.join(sorted(names))}")
    try:
        answer = KnownAnswer(name=name, **table)
    except TypeError as error:
        raise InputError(f"{where} lacks a field: {error}") from error
    if answer.rule not in RULES or others:
        raise InputError(f"{where}: rule = {answer.rule!r}; use {' or '.join(map(repr, RULES))}")
    if answer.sha256 and len(answer.sha256) != len(answer.images):
        raise InputError(f"{where} has {len(answer.images)} images and {len(answer.sha256)} sha256")
    return answer


def default_folder() -> Path:
    """Return the folder of images that were fetched.

    >>> default_folder().name
    'known-images'
    """
    return user_cache_path("t2v-eval") / "known-images"


def check_known(
    scorer: Scorer,
    answer: KnownAnswer,
    folder: Path,
    fetch: bool = False,
    allow_urls: AllowUrls = True,
) -> Check:
    """Compare the scores of known images with published numbers.

    Args:
        scorer: the scorer.
        answer: the published numbers.
        folder: the folder of images that were fetched.
        fetch: whether images that are not there may be downloaded.
        allow_urls: addresses that may be downloaded from, as `inputs.urls.download` takes it.

    Raises:
        MediaError: an image cannot be downloaded, or is not the published one.
        T2VError: as the scorer raises.
    """
    name = f"known answer {answer.name}"
    files = [_file(folder, url) for url in answer.images]
    missing = [url for url, file in zip(answer.images, files, strict=True) if not file.exists()]
    if missing and not fetch:
        reason = f"`fetch=True` downloads its images: {', '.join(missing)}"
        return Check.without(name, reason, answer.source)
    hashes = answer.sha256 or [""] * len(files)
    for url, file, sha256 in zip(answer.images, files, hashes, strict=True):
        if not file.exists():
            _download(url, file, sha256, allow_urls)
        _check_hash(file, url, file.read_bytes(), sha256)
    with quiet():
        block = Block.of(files, answer.texts, answer.references)
        scores = scorer.run([block], progress=False)[0].numpy().astype(np.float64)
    apart, numbers = answer.difference(scores), answer.numbers(scores)
    text = (
        f"measured {_as_text(numbers)}, published {_as_text(np.array(answer.expected))}: "
        f"{apart:.2g} apart (allowed: {answer.tolerance:.2g})"
    )
    checked = Check.of(name, apart <= answer.tolerance, text, apart)
    return Check(checked.name, checked.outcome, text, apart, answer.source)


def _as_text(numbers: Numbers) -> str:
    return ", ".join(f"{value:.4g}" for value in numbers.reshape(-1))


def _file(folder: Path, url: str) -> Path:
    """Return the file of a URL, named by a hash, as several URLs end in one file name."""
    suffix = Path(url).suffix.lower()
    return folder / f"{hashlib.blake2b(url.encode(), digest_size=8).hexdigest()}{suffix}"


def _download(url: str, file: Path, sha256: str, allow_urls: AllowUrls) -> None:
    content = download(url, url, allow_urls)
    _check_hash(file, url, content, sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, "wb") as stream:
        stream.write(content)


def _check_hash(file: Path, url: str, content: bytes, sha256: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if sha256 and actual != sha256:
        raise MediaError(
            f"{url}: its content has the sha256 {actual}, and the image with the published numbers "
            f"{sha256}; delete {file} if it is there, and fetch it again"
        )
