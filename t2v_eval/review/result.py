"""What people said of the images of a review: rates with bounds, agreement, differences."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.evaluation.sampling import Sample
from t2v_eval.review.flags import ANY_FLAG
from t2v_eval.stats.intervals import clopper_pearson
from t2v_eval.stats.raters import cohen_kappa, krippendorff_alpha
from t2v_eval.votes.key import relative_path

ANY_RATER, EVERY_RATER = "any rater", "every rater"
"""Rules by which raters together flag an image; a rater alone is a rule by their name."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person said of an image.

    Attributes:
        flags: what is wrong with it; none where the person said that it has no fault.
        note: what the person wrote, or "".

    >>> Mark(("count",)).has("any flag")
    True
    """

    flags: tuple[str, ...] = ()
    note: str = ""

    def has(self, flag: str) -> bool:
        """Return whether the image was flagged; "any flag" stands for all flags."""
        return flag in self.flags or (flag == ANY_FLAG and bool(self.flags))


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """An image and what people said of it.

    Attributes:
        generator: the name of the generator that made it.
        path: its file.
        prompt: the id of its prompt, or its name where no prompt is known.
        text: the prompt, or "".
        marks: of each person who looked at it.

    >>> ReviewedImage("sdxl", "sdxl/0.png", "0", "a cat", {"Ann": Mark()}).marks["Ann"].flags
    ()
    """

    generator: str
    path: str
    prompt: str
    text: str
    marks: Mapping[str, Mark]


@dataclass(frozen=True, slots=True)
class FlagRate:
    """The share of images of a generator that were flagged, with its exact interval.

    Attributes:
        flag: the flag, or "any flag".
        generator: the generator.
        rule: who flagged them: "any rater", "every rater", or the name of a rater.
        count: how many images were flagged.
        n: of how many.
        value: the share, 0 to 1; NaN without images.
        low, high: the Clopper-Pearson interval.

    >>> FlagRate.of("unsafe", "sdxl", "any rater", 0, 50).high < 0.072
    True
    """

    flag: str
    generator: str
    rule: str
    count: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(
        cls, flag: str, generator: str, rule: str, count: int, n: int, confidence: float = 0.95
    ) -> FlagRate:
        """Compute the share and its interval; without images, all are NaN."""
        if not n:
            return cls(flag, generator, rule, count, n, math.nan, math.nan, math.nan)
        limits = clopper_pearson(count, n, confidence)
        return cls(flag, generator, rule, count, n, count / n, *limits)


@dataclass(frozen=True, slots=True)
class FlagAgreement:
    """How well raters agree about a flag.

    Attributes:
        flag: the flag, or "any flag".
        n: how many images two raters or more looked at.
        equal: about how many of them all who looked at them agree.
        kappa: Cohen's, of two raters; else NaN.
        alpha: Krippendorff's, of nominal values, of any number of raters.
        disputed: the files of the images about which they do not agree.

    >>> FlagAgreement("count", 9, 9, 1.0, 1.0, ()).equal
    9
    """

    flag: str
    n: int
    equal: int
    kappa: float
    alpha: float
    disputed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlagDifference:
    """How much oftener images of a generator are flagged than those of another, by prompt.

    Attributes:
        flag: the flag, or "any flag".
        first, second: the generators.
        n: prompts of which both have one image that all raters looked at.
        only_first, only_second: prompts of which one image alone is flagged by any rater.
        value: the share of the first minus that of the second; NaN without prompts.
        p: of the exact test of McNemar that both are flagged equally often; NaN without prompts.

    >>> FlagDifference("count", "a", "b", 50, 9, 1, 0.16, 0.021).value
    0.16
    """

    flag: str
    first: str
    second: str
    n: int
    only_first: int
    only_second: int
    value: float
    p: float


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """The reviews of a page.

    Attributes:
        page: the id of the page.
        files: what people saved.
        sample: how many images of each generator were chosen at most, and the seed.
        available: how many images each generator had.
        flags: the flags of the page.
        raters: the people.
        images: the images that anybody reviewed.
        unseen: how many images of the page each rater did not answer.
        confidence: the coverage of intervals.

    >>> image = ReviewedImage("sdxl", "0.png", "0", "a cat", {"Ann": Mark(("count",))})
    >>> result = ReviewResult("8f", (), Sample(1), {"sdxl": 1}, ("count",), ("Ann",), (image,), {})
    >>> [(rate.flag, rate.rule, rate.count) for rate in result.rates]
    [('count', 'any rater', 1), ('any flag', 'any rater', 1)]
    """

    page: str
    files: tuple[str, ...]
    sample: Sample
    available: Mapping[str, int]
    flags: tuple[str, ...]
    raters: tuple[str, ...]
    images: tuple[ReviewedImage, ...]
    unseen: Mapping[str, int]
    confidence: float = 0.95

    @property
    def generators(self) -> tuple[str, ...]:
        """The names of the generators, sorted."""
        return tuple(sorted(self.available))

    @property
    def rows(self) -> tuple[str, ...]:
        """What rates are of: each flag, and whether there is any."""
        return (*self.flags, ANY_FLAG)

    @property
    def rates(self) -> list[FlagRate]:
        """The share of flagged images, by flag, generator and rule.

        The rules of all raters are over the images that every rater looked at, since an image that
        fewer people see is flagged more rarely; that of a single rater is over theirs.
        """
        rates = []
        for flag in self.rows:
            for generator in self.generators:
                images = [image for image in self.images if image.generator == generator]
                shared = [image for image in images if len(image.marks) == len(self.raters)]
                rules = {ANY_RATER: (shared, any), EVERY_RATER: (shared, all)}
                if len(self.raters) == 1:
                    del rules[EVERY_RATER]
                for rule, (seen, flagged) in rules.items():
                    count = sum(flagged(m.has(flag) for m in i.marks.values()) for i in seen)
                    rates.append(self._rate(flag, generator, rule, count, len(seen)))
                for rater in self.raters if len(self.raters) > 1 else ():
                    marks = [image.marks[rater] for image in images if rater in image.marks]
                    count = sum(mark.has(flag) for mark in marks)
                    rates.append(self._rate(flag, generator, rater, count, len(marks)))
        return rates

    def _rate(self, flag: str, generator: str, rule: str, count: int, n: int) -> FlagRate:
        return FlagRate.of(flag, generator, rule, count, n, self.confidence)

    @property
    def agreement(self) -> list[FlagAgreement]:
        """How well raters agree about each flag; empty for one rater."""
        if len(self.raters) < 2:
            return []
        return [self._agreement(flag) for flag in self.rows]

    def _agreement(self, flag: str) -> FlagAgreement:
        shared = [image for image in self.images if len(image.marks) > 1]
        ratings = np.full((len(shared), len(self.raters)), np.nan, np.float64)
        for row, image in enumerate(shared):
            for column, rater in enumerate(self.raters):
                if rater in image.marks:
                    ratings[row, column] = image.marks[rater].has(flag)
        disputed = tuple(
            image.path
            for image in shared
            if len({mark.has(flag) for mark in image.marks.values()}) > 1
        )
        kappa = cohen_kappa(ratings) if len(self.raters) == 2 else math.nan
        alpha = krippendorff_alpha(ratings, "nominal")
        return FlagAgreement(flag, len(shared), len(shared) - len(disputed), kappa, alpha, disputed)

    @property
    def differences(self) -> list[FlagDifference]:
        """The difference between each two generators that share prompts, by flag."""
        return [
            difference
            for flag in self.rows
            for first, second in combinations(self.generators, 2)
            if (difference := self._difference(flag, first, second)).n
        ]

    def _difference(self, flag: str, first: str, second: str) -> FlagDifference:
        from scipy.stats import binomtest

        by_prompt: defaultdict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for image in self.images:
            if len(image.marks) == len(self.raters):
                flagged = any(mark.has(flag) for mark in image.marks.values())
                by_prompt[image.prompt][image.generator].append(flagged)
        pairs = Counter(
            (images[first][0], images[second][0])
            for images in by_prompt.values()
            if len(images[first]) == len(images[second]) == 1
        )
        n, one, other = pairs.total(), pairs[True, False], pairs[False, True]
        value = (one - other) / n if n else math.nan
        p = float(binomtest(one, one + other).pvalue) if one + other else 1.0 if n else math.nan
        return FlagDifference(flag, first, second, n, one, other, value, p)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it, with None for NaN."""
        return {
            "page": self.page,
            "files": [*self.files],
            "sample": {"limit": self.sample.limit, "seed": self.sample.seed},
            "available": dict(self.available),
            "confidence": self.confidence,
            "raters": [*self.raters],
            "unseen": dict(self.unseen),
            "rates": [_plain(asdict(rate)) for rate in self.rates],
            "agreement": [_plain(asdict(agreement)) for agreement in self.agreement],
            "differences": [_plain(asdict(difference)) for difference in self.differences],
        }

    def table(self, folder: Path) -> list[dict[str, Any]]:
        """Return a row for each image and rater.

        Args:
            folder: the folder that paths of images are relative to.

        Returns:
            Rows with the columns ``image``, ``generator``, ``prompt``, ``text``, ``rater``, one for
            each flag (0 or 1), and ``note``.
        """
        return [
            {
                "image": relative_path(image.path, folder),
                "generator": image.generator,
                "prompt": image.prompt,
                "text": image.text,
                "rater": rater,
                **{flag: int(mark.has(flag)) for flag in self.flags},
                "note": mark.note,
            }
            for image in self.images
            for rater, mark in image.marks.items()
        ]


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in content.items()
    }
