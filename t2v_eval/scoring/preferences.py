"""Preferences between two images, asked for in both orders.

Models have a position bias: they favour the first or the second image. So each pair is scored twice
with the images swapped, and contradictory answers are reported as inconsistent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import Media, MediaLike, open_media
from t2v_eval.inputs.roles import pair_of
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer


class Preference(NamedTuple):
    """The preference for the first of two images.

    Attributes:
        value: mean of both answers: 1 for the first image, 0 for the second, 0.5 for a tie; NaN
            where an answer is missing.
        consistent: whether both answers prefer the same image, or none; None where one is missing.
        shown_first: the answer with the first image before the second.
        shown_second: the answer with the first image behind the second.
        reason: why an answer is missing.

    >>> Preference(1.0, True, 1.0, 1.0).consistent
    True
    """

    value: float
    consistent: bool | None
    shown_first: float
    shown_second: float
    reason: str = ""


class PreferenceMixin(Scorer):
    """A scorer of pairs of images: 1 for the first image, 0 for the second, 0.5 for a tie.

    Subclasses score pairs in `score_cells`: of images (`image_roles = PAIR`), or of edits of one
    source, which they see too (`EDIT_PAIR`).

    >>> import numpy as np, torch
    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import PAIR
    >>> from t2v_eval.scoring.results import ScoreChunk
    >>> class Brighter(PreferenceMixin):
    ...     image_roles = PAIR
    ...
    ...     def score_cells(self, images, texts, cells):
    ...         for n, (i, _) in enumerate(cells.tolist()):
    ...             first, second = (np.mean(self.load_image(m)) for m in images[i].images)
    ...             yield ScoreChunk(np.array([n]), torch.tensor([float(first > second)]))
    >>> dark, bright = (Image.new("RGB", (2, 2), name) for name in ("navy", "white"))
    >>> Brighter().prefer(dark, bright, "a wall").value
    0.0
    """

    def prefer(
        self, image_a: MediaLike, image_b: MediaLike, text: str, **template: str | None
    ) -> Preference:
        """Return which image shows the text better, with two requests.

        Args:
            image_a: an image of any type that `open_media` accepts, or an `Edit`.
            image_b: the image, or the edit of the same source, to compare it with.
            text: the description to compare them by.
            template: `question_template` or `template` for this call.

        Returns:
            The preference for the first image.

        Raises:
            InputError: an argument is not valid; a `MediaError` for an image.
            ScoringError: an answer is missing; with ``on_error="skip"`` the value is NaN.
        """
        return self.prefer_all([(image_a, image_b, text)], None, **template)[0]

    def prefer_all(
        self,
        pairs: Iterable[tuple[MediaLike, MediaLike, str]],
        progress: Progress | bool | None = None,
        **template: str | None,
    ) -> list[Preference]:
        """Compare many pairs, with concurrent requests.

        Args:
            pairs: (image_a, image_b, text) of each.
            progress: called with the counts as they grow; or whether to show a bar, by default in
                a terminal or a notebook.
            template: see `prefer`.

        Returns:
            A `Preference` for each pair.

        Raises:
            InputError, ScoringError: see `prefer`.
        """
        blocks = self.pair_blocks(pairs)
        if not blocks:
            return []
        outcome = self.with_call_options(template).evaluate_blocks(blocks, progress)
        preferences = []
        for n, scores in enumerate(outcome.scores):
            first, second = float(scores[0, 0]), 1.0 - float(scores[1, 0])
            reasons = (outcome.failures.get((n, row, 0), "") for row in (0, 1))
            missing = math.isnan(first + second)
            sides = {(value > 0.5) - (value < 0.5) for value in (first, second)}
            agree = None if missing else len(sides) == 1
            reason = "; ".join(dict.fromkeys(filter(None, reasons)))
            preferences.append(Preference((first + second) / 2, agree, first, second, reason))
        return preferences

    def pair_blocks(self, pairs: Iterable[tuple[MediaLike, MediaLike, str]]) -> list[Block]:
        """Return a block for each pair, whose images are the pair in both orders.

        Args:
            pairs: (image_a, image_b, text) of each.

        Raises:
            InputError: a text is none; a `MediaError` for an image.
        """
        blocks = []
        for n, (image_a, image_b, text) in enumerate(pairs):
            a, b = self._open(image_a, f"image_a[{n}]"), self._open(image_b, f"image_b[{n}]")
            if not isinstance(text, str):
                raise InputError(f"text[{n}] is {type(text).__name__}; pass one text")
            blocks.append(Block([pair_of(a, b), pair_of(b, a)], [text]))
        return blocks

    def _open(self, image: MediaLike, position: str) -> Media:
        try:
            return open_media(image, position, self.allow_urls)
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return Media.broken(position, error)
