"""Cautions about scores: images of an unexpected size, and texts that were truncated.

They hold for scores from the store too. Texts are truncated while they are encoded, which a later
run does not repeat, so the details of each cell name its truncated texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from t2v_eval.inputs.image_file import orientation_of
from t2v_eval.inputs.media import Media
from t2v_eval.scoring.plan import Caption, Plan, Text
from t2v_eval.scoring.results import ScoreChunk

CUT = "cut_texts"  # key in a cell's details: indices of the truncated strings of its text


def other_sizes(
    images: Sequence[Media], expected: tuple[int, int], mode: str, caution: str
) -> list[str]:
    """Return a caution with the number of images of another size than `expected`, if any.

    Args:
        images: the images; those whose header cannot be read are left out.
        expected: width and height in pixels.
        mode: the scorer's image mode.
        caution: the consequence, from the scorer's card.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> other_sizes([open_media(Image.new("RGB", (4, 2)))], (4, 2), "seen", "do not compare")
    []
    """
    sizes = [size_of(media, mode) for media in images]
    other = [
        media.name
        for media, size in zip(images, sizes, strict=True)
        if size is not None and size != expected
    ]
    if not other:
        return []
    width, height = expected
    return [
        f"{len(other)} of {len(images)} images are not of {width} x {height} pixels, the first "
        f"is {other[0]}: {caution}"
    ]


def size_of(media: Media, mode: str = "seen") -> tuple[int, int] | None:
    """Return the width and height of an image from its header; None if it cannot be read.

    But in mode "original", this is the size after the EXIF orientation is applied.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> size_of(open_media(Image.new("RGB", (4, 2))))
    (4, 2)
    """
    try:
        image = media.load()
        swapped = mode != "original" and orientation_of(image) in (5, 6, 7, 8)
    except Exception:  # decoders raise anything; decoding the image reports the reason
        return None
    width, height = image.size
    return (height, width) if swapped else (width, height)


def strings_of(text: Text) -> tuple[str, ...]:
    """Return a text followed by its references.

    >>> strings_of("a cat"), strings_of(Caption("a cat", ("a kitten",)))
    (('a cat',), ('a cat', 'a kitten'))
    """
    return (text.text, *text.references) if isinstance(text, Caption) else (text,)


class TruncatedTexts:
    """The strings of a plan's texts that a model truncated.

    Args:
        noted: strings that the backend reported, before or after the template was applied; it
            may grow while the run goes on.
        fill: applies the question template.

    >>> from PIL import Image
    >>> from t2v_eval.scoring.plan import Block
    >>> plan = Plan.of([Block.of(Image.new("RGB", (4, 2)), ["long", "short"])])
    >>> len(TruncatedTexts(plan, {"long"}, str).all_strings())
    2
    """

    def __init__(self, plan: Plan, noted: Set[str], fill: Callable[[str], str]) -> None:
        self.plan, self.noted, self.fill = plan, noted, fill

    def annotate(self, chunk: ScoreChunk, cells: NDArray[np.int64]) -> ScoreChunk:
        """Add the truncated texts of a chunk's `cells` to its details."""
        if not self.noted or chunk.error:
            return chunk
        details = list(chunk.details or [None] * len(cells))
        for k, cell in enumerate(cells.tolist()):
            cut = [n for n, string in enumerate(self._strings(cell)) if self._is_cut(string)]
            detail = json.loads(details[k] or "{}") if cut else None
            if isinstance(detail, dict):
                details[k] = json.dumps(detail | {CUT: cut}, ensure_ascii=False)
        return replace(chunk, details=details) if any(details) else chunk

    def all_strings(self) -> set[str]:
        """Return all strings of the plan's texts."""
        return {string for text in self.plan.texts for string in strings_of(text)}

    def collect(self, details: Mapping[int, str]) -> set[str]:
        """Return all truncated strings: those noted in this run, and those in cells' details."""
        cut = {string for string in self.all_strings() if self.noted and self._is_cut(string)}
        cut |= self.noted - {self.fill(string) for string in cut}
        for cell, detail in details.items():
            if f'"{CUT}"' in detail:
                strings = self._strings(cell)
                cut |= {strings[n] for n in json.loads(detail)[CUT] if n < len(strings)}
        return cut

    def _strings(self, cell: int) -> tuple[str, ...]:
        return strings_of(self.plan.texts[self.plan.cells[cell, 1]])

    def _is_cut(self, string: str) -> bool:
        return string in self.noted or self.fill(string) in self.noted
