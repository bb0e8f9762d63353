"""Drift: whether a scorer still gives the scores that a store holds.

A service may answer with another model under the same name. Stored scores are then no longer
comparable with new ones, though the scorer's id is the same.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.errors import InputError, MediaError, StoreError
from t2v_eval.inputs.media import PAIR, ImageGroup, Media, MediaLike, name_of, open_media
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Interval, bootstrap_interval
from t2v_eval.store import Store, StoredCell

CELLS = 50
"""How many stored scores are asked for again by default."""


@dataclass(frozen=True, slots=True)
class RepeatedScore:
    """A stored score, and the new score of the same image and text.

    Attributes:
        image: the name of the image.
        text: the text.
        stored: the stored score.
        again: the new score; NaN if it failed.
        error: why it failed.
        stored_model: full name of the model that gave the stored score; "" if unknown.
        model: full name of the model that gave the new score; "" if unknown.
        key: key of the image's content, since images may share a name; "" if unknown.

    >>> RepeatedScore("cat.png", "a cat", stored=0.75, again=0.5).difference
    -0.25
    """

    image: str
    text: str
    stored: float
    again: float
    error: str = ""
    stored_model: str = ""
    model: str = ""
    key: str = ""

    @property
    def difference(self) -> float:
        """The new score minus the stored one; NaN if the new one failed."""
        return self.again - self.stored


@dataclass(frozen=True, slots=True)
class Drift:
    """Differences between new and stored scores.

    Attributes:
        scores: the sampled scores, stored and new.
        shift: mean difference (new minus stored), with its 95 % interval over images; NaN if no
            new score was computed.
        without_image: number of stored scores that were left out, since their image is missing or
            has changed.

    >>> scores = [RepeatedScore("a.png", "a cat", 0.5, 0.75), RepeatedScore("b.png", "", 0.5, 0.5)]
    >>> drift = Drift.of(scores)
    >>> drift.shift.value, drift.changed, drift.mean_absolute
    (0.125, 1, 0.125)
    """

    scores: tuple[RepeatedScore, ...]
    shift: Interval
    without_image: int = 0

    @classmethod
    def of(
        cls,
        scores: Sequence[RepeatedScore],
        without_image: int = 0,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Drift:
        """Compute the drift of scores.

        Args:
            scores: the scores.
            without_image: see `Drift`.
            resamples: the number of bootstrap resamples of images.
            seed: their random seed.
        """
        differences: dict[str, list[float]] = {}
        for score in scores:
            if not math.isnan(score.again):
                differences.setdefault(score.key or score.image, []).append(score.difference)
        sums = np.array([math.fsum(values) for values in differences.values()])
        counts = np.array([len(values) for values in differences.values()])
        shift = Interval(math.nan, math.nan, math.nan)
        if differences:
            shift = bootstrap_interval(
                lambda units: {"shift": float(sums[units].sum() / counts[units].sum())},
                len(sums),
                resamples=resamples,
                seed=seed,
            )["shift"]
        return cls(tuple(scores), shift, without_image)

    @property
    def answered(self) -> tuple[RepeatedScore, ...]:
        """The scores that were computed again."""
        return tuple(score for score in self.scores if not math.isnan(score.again))

    @property
    def changed(self) -> int:
        """Number of scores that differ by more than the store rounds."""
        return sum(
            not math.isclose(s.stored, s.again, rel_tol=1e-6, abs_tol=1e-9) for s in self.answered
        )

    @property
    def mean_absolute(self) -> float:
        """Mean absolute difference; NaN if no new score was computed."""
        values = [abs(score.difference) for score in self.answered]
        return math.fsum(values) / len(values) if values else math.nan

    @property
    def shifted(self) -> bool:
        """Whether the interval of the mean difference excludes 0."""
        return self.shift.low > 0 or self.shift.high < 0

    @property
    def models(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the models behind stored and new scores, where the service reports them."""
        then = sorted({s.stored_model for s in self.scores} - {""})
        now = sorted({s.model for s in self.scores} - {""})
        return tuple(then), tuple(now)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, the shift and the models, ready for JSON."""
        then, now = self.models
        return {
            "asked": len(self.scores),
            "answered": len(self.answered),
            "without_image": self.without_image,
            "changed": self.changed,
            "shift": self.shift._asdict(),
            "mean_absolute": self.mean_absolute,
            "shifted": self.shifted,
            "models_then": list(then),
            "models_now": list(now),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """Stored scores of a scorer, with their images.

    Attributes:
        cells: the stored scores.
        images: the image of each score.
        without_image: number of scores that were left out, since their image is missing or has
            changed.
        path: the file of the store.

    >>> len(Sample((), (), 3).blocks())
    0
    """

    cells: tuple[StoredCell, ...]
    images: tuple[Media, ...]
    without_image: int
    path: Path | None = None

    def blocks(self) -> list[Block]:
        """Return a block for each score."""
        return [
            Block([image], [cell.text]) for image, cell in zip(self.images, self.cells, strict=True)
        ]


def sample_stored(
    scorer: Scorer,
    store: Store,
    images: Iterable[MediaLike] = (),
    *,
    cells: int = CELLS,
    seed: int = 0,
) -> Sample:
    """Draw a random sample of stored scores whose image is found unchanged.

    Args:
        scorer: the scorer, with the options and the template that the scores were computed with.
        store: the store.
        images: images to look among, by content. Files are also looked for under their names in
            the store, relative to the current folder.
        cells: the size of the sample; all scores if there are fewer.
        seed: the random seed.

    Raises:
        InputError: `cells` is less than 1, or `seed` less than 0.
        MediaError: one of `images` cannot be opened.
        StoreError: the store has no score of this scorer, or none whose image is found.

    >>> import tempfile, t2v_eval
    >>> from PIL import Image
    >>> red = Image.new("RGB", (48, 48), "red")
    >>> store = Store(Path(tempfile.mkdtemp()) / "scores.sqlite")
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu", store=store)
    >>> _ = scorer(red, ["red", "blue"])
    >>> sample = sample_stored(scorer, store, [red])
    >>> len(sample.cells), sample.without_image
    (2, 0)
    """
    for name, value, minimum in (("sample", cells, 1), ("seed", seed, 0)):
        if type(value) is not int or value < minimum:
            raise InputError(f"`{name}={value!r}`; pass a whole number of {minimum} or more")
    stored = store.scored_cells(scorer.id)
    if not stored:
        raise StoreError(_explain_absence(scorer, store))
    sources = [open_media(image, name_of(image), scorer.allow_urls) for image in images]
    opened: dict[str, Media | None] = {media.key: media for media in sources}
    chosen: list[tuple[StoredCell, Media]] = []
    without_image = 0
    for n in np.random.default_rng(seed).permutation(len(stored)).tolist():
        cell = stored[n]
        if (media := _image_of(cell, opened)) is None:
            without_image += 1
            continue
        chosen.append((cell, media))
        if len(chosen) == cells:
            break
    if not chosen:
        raise StoreError(
            f"{store.path} has {len(stored)} scores of {scorer.name!r}, but none of their images "
            f"was found unchanged, such as {stored[0].name!r}; pass the files or folders that hold "
            "them"
        )
    return Sample(
        tuple(cell for cell, _ in chosen),
        tuple(media for _, media in chosen),
        without_image,
        store.path,
    )


def measure_drift(
    scorer: Scorer,
    sample: Sample,
    *,
    again: Store | None = None,
    progress: Progress | bool | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Drift:
    """Compute stored scores again, and measure how they differ.

    Args:
        scorer: the scorer; its own store is neither read nor changed.
        sample: its stored scores, as `sample_stored` returns them.
        again: a store for the new scores, from which an interrupted call resumes.
        progress: see `Scorer.forward`.
        resamples: the number of bootstrap resamples of the interval.
        seed: their random seed.

    Raises:
        InputError: `again` is the store of the sample.
        ServiceError: the service does not answer.

    >>> import tempfile, t2v_eval
    >>> from PIL import Image
    >>> red = Image.new("RGB", (48, 48), "red")
    >>> store = Store(Path(tempfile.mkdtemp()) / "scores.sqlite")
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu", store=store)
    >>> _ = scorer(red, ["red", "blue"])
    >>> drift = measure_drift(scorer, sample_stored(scorer, store, [red]))
    >>> len(drift.answered), drift.changed
    (2, 0)
    """
    if again is not None and sample.path and again.path.resolve() == sample.path.resolve():
        raise InputError(
            f"`again={str(again.path)!r}` holds the scores that are asked for again, and would "
            "answer with them: name another file"
        )
    fresh = copy.copy(scorer)
    fresh.store, fresh.on_error = again, "skip"
    outcome = fresh.evaluate_blocks(sample.blocks(), progress)
    scores = [
        RepeatedScore(
            cell.name,
            cell.text,
            cell.value,
            float(outcome.scores[n][0, 0]),
            outcome.failures.get((n, 0, 0), ""),
            _model(cell.detail),
            _model(outcome.details.get((n, 0, 0))),
            cell.image,
        )
        for n, cell in enumerate(sample.cells)
    ]
    return Drift.of(scores, sample.without_image, resamples, seed)


def _image_of(cell: StoredCell, opened: dict[str, Media | None]) -> Media | None:
    """Return the image of a score, or its group of images; None if one is missing.

    Args:
        cell: the stored score.
        opened: images by key; updated with those that are opened.
    """
    before, _, listed = cell.image.rpartition(" ")  # as `ImageGroup.of` makes keys and names
    keys, names = listed.split("+"), cell.name.split(" and ")
    if len(keys) == 1:
        keys, names = [cell.image], [cell.name]
    images = []
    for key, name in zip(keys, names if len(names) == len(keys) else [""] * len(keys), strict=True):
        if key not in opened:
            opened[key] = _open_by_name(key, name)
        if (media := opened[key]) is not None:
            images.append(media)
    if len(images) < len(keys):
        return None
    roles = before.split() or PAIR
    return images[0] if len(keys) == 1 else ImageGroup.of(**dict(zip(roles, images, strict=True)))


def _open_by_name(key: str, name: str) -> Media | None:
    """Open the file that the store names; None if it is missing or has changed."""
    named = re.fullmatch(r".*? \((.+)\)", name)  # as `open_media` names files
    try:
        media = open_media(Path(named[1] if named else name))
    except MediaError:
        return None
    return media if media.key == key else None


def _model(detail: str | None) -> str:
    """Return the name of the model in the detail of a score; "" where there is none."""
    try:
        model = json.loads(detail or "null")["model"]
    except (TypeError, KeyError, ValueError):
        return ""
    return model if isinstance(model, str) else ""


def _explain_absence(scorer: Scorer, store: Store) -> str:
    """Say that a store has no score of a scorer, and which it has of the same name."""
    others = [s.scorer for s in store.stats() if s.scorer.startswith(f"{scorer.name} ") and s.cells]
    hint = "score images with it first"
    if others:
        hint = (
            f"it has some with other options or another version: {others[0]!r}"
            f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}; pass those options"
        )
    return f"{store.path} has no score of {scorer.id!r}: {hint}"
