"""What a reader of scores should know of them, whether they are computed now or from the store.

Pictures of another size than a card expects, and texts that lost their ends. Which texts did is
found out by reading them; as a later run reads none, it is kept in the details of their cells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from t2v_eval.inputs.media import Media
from t2v_eval.scoring.plan import Caption, Plan, Text
from t2v_eval.scoring.results import ScoreChunk

CUT = "cut_texts"  # in a cell's details: which of its text and references lost their ends


def other_sizes(
    images: Sequence[Media], expected: tuple[int, int], mode: str, caution: str
) -> list[str]:
    """The caution, with how many pictures are not of the expected width and height, if any."""
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
        f"{len(other)} of {len(images)} pictures are not of {width} x {height} pixels, the first "
        f"is {other[0]}: {caution}"
    ]


def size_of(media: Media, mode: str = "seen") -> tuple[int, int] | None:
    """Width and height of a picture as `decode` gives it, by its header; None of no picture.

    In mode "seen", that is after the turn which its file asks for.
    """
    try:
        image = media.load()
        turned = mode == "seen" and image.getexif().get(274) in (5, 6, 7, 8)
    except Exception:  # decoders raise anything; the reason is told where it is decoded
        return None
    width, height = image.size
    return (height, width) if turned else (width, height)


def strings_of(text: Text) -> tuple[str, ...]:
    """A text, and the references beside it."""
    return (text.text, *text.references) if isinstance(text, Caption) else (text,)


class TruncatedTexts:
    """Which strings of a plan's texts lost their ends.

    Args:
        noted: what a backend told, as texts are or as the template filled them; it may grow.
        fill: what fills the question.
    """

    def __init__(self, plan: Plan, noted: Set[str], fill: Callable[[str], str]) -> None:
        self.plan, self.noted, self.fill = plan, noted, fill

    def annotate(self, part: ScoreChunk, cells: NDArray[np.int64]) -> ScoreChunk:
        """A part whose details say what was cut of its `cells`."""
        if not self.noted or part.error:
            return part
        details = list(part.details or [None] * len(cells))
        for k, cell in enumerate(cells.tolist()):
            cut = [n for n, string in enumerate(self._strings(cell)) if self._cut(string)]
            said = json.loads(details[k] or "{}") if cut else None
            if isinstance(said, dict):
                details[k] = json.dumps(said | {CUT: cut}, ensure_ascii=False)
        return replace(part, details=details) if any(details) else part

    def all_strings(self) -> set[str]:
        """All strings of the plan's texts."""
        return {string for text in self.plan.texts for string in strings_of(text)}

    def found_in(self, details: Mapping[int, str]) -> set[str]:
        """What was cut, as noted now or as the details of cells say."""
        cut = {string for string in self.all_strings() if self.noted and self._cut(string)}
        cut |= self.noted - {self.fill(string) for string in cut}
        for cell, detail in details.items():
            if f'"{CUT}"' in detail:
                strings = self._strings(cell)
                cut |= {strings[n] for n in json.loads(detail)[CUT] if n < len(strings)}
        return cut

    def _strings(self, cell: int) -> tuple[str, ...]:
        return strings_of(self.plan.texts[self.plan.cells[cell, 1]])

    def _cut(self, string: str) -> bool:
        return string in self.noted or self.fill(string) in self.noted
