"""GenEval's checks of detected objects: presence, number, colour and position.

Source: Ghosh et al. 2023, GenEval, and evaluation/evaluate_images.py of its repository. The boxes
come from any detector; the published figures are those of the authors' Mask2Former.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from t2v_eval.errors import InputError

Box: TypeAlias = Sequence[float]
"""Left, top, right and bottom in pixels, and the confidence, 0 to 1."""
BoxT = TypeVar("BoxT", bound=Box)

COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip
"""The colours that clauses may ask for."""
RELATIONS = ("left of", "right of", "above", "below")
"""The positions that clauses may ask for."""
MINIMUM_CONFIDENCE = 0.3
"""Boxes must be more confident than this."""
MINIMUM_CONFIDENCE_COUNTING = 0.9
"""The same for prompts whose tag is `counting`."""
MAX_BOXES = 16
"""Most boxes of a class."""
POSITION_THRESHOLD = 0.1
"""The share of both boxes' sizes by which their centres may differ without a relation."""


class Outcome(NamedTuple):
    """Whether an image shows what its prompt asks for, and each reason why not.

    >>> check_objects({"dog": []}, {"include": [{"class": "dog", "count": 1}]})
    Outcome(correct=False, reasons=['expected 1 dog, detected 0'])
    """

    correct: bool
    reasons: list[str]


def select_boxes(
    boxes: Mapping[str, Sequence[BoxT]],
    tag: str,
    minimum: float = MINIMUM_CONFIDENCE,
    minimum_counting: float = MINIMUM_CONFIDENCE_COUNTING,
) -> dict[str, list[BoxT]]:
    """Return the boxes that count, the most confident first; classes without any are left out.

    Args:
        boxes: all boxes of each class.
        tag: the prompt's tag; `counting` asks for more confidence.
        minimum: boxes must be more confident than this, 0 to 1.
        minimum_counting: the same for prompts whose tag is `counting`.

    >>> select_boxes({"dog": [[0, 0, 9, 9, 0.5], [5, 5, 9, 9, 0.8]], "cat": []}, "counting")
    {}
    """
    minimum = minimum_counting if tag == "counting" else minimum
    selected = {}
    for name, listed in boxes.items():
        confident = [box for box in listed if box[4] > minimum]
        # As numpy.argsort of the original, reversed: of equal confidences the later box is first.
        order = np.argsort([box[4] for box in confident], kind="stable")[::-1][:MAX_BOXES]
        if confident:
            selected[name] = [confident[index] for index in order]
    return selected


def check_objects(
    boxes: Mapping[str, Sequence[BoxT]],
    metadata: Mapping[str, Any],
    colour_of: Callable[[str, BoxT], str] | None = None,
) -> Outcome:
    """Check the boxes of an image against what its prompt asks for.

    Clauses of `include` must all hold, and none of `exclude` may. Of each class the `count` most
    confident boxes are looked at. A clause with a position must have it towards every box of the
    clause that it names.

    Args:
        boxes: the boxes of each class, the most confident first (`select_boxes`).
        metadata: `include` and `exclude` of GenEval's evaluation_metadata.jsonl: clauses with
            `class`, `count`, and perhaps `color` and `position` (a relation, a clause's number).
        colour_of: the colour of a box, by class and box; only clauses with a colour need it.

    Raises:
        InputError: a clause asks for a colour and there is no `colour_of`, or for the position to
            a clause that does not come before it.

    >>> clauses = [{"class": "dog", "count": 1, "color": "red"}]
    >>> check_objects({"dog": [[0, 0, 9, 9, 0.8]]}, {"include": clauses}, lambda *box: "red")
    Outcome(correct=True, reasons=[])
    """
    reasons: list[str] = []
    matched: list[Sequence[BoxT] | None] = []
    for clause in metadata.get("include", ()):
        name, count = clause["class"], clause["count"]
        objects = list(boxes.get(name, ()))[:count]
        failed = []
        if len(objects) < count:
            failed.append(f"expected {count} {name}, detected {len(objects)}")
        else:
            failed += _wrong_colours(clause, objects, colour_of)
            if "position" in clause and not failed:
                failed += _wrong_position(clause, objects, matched)
        matched.append(None if failed else objects)
        reasons += failed
    for clause in metadata.get("exclude", ()):
        name, count = clause["class"], clause["count"]
        if len(boxes.get(name, ())) >= count:
            reasons.append(f"expected fewer than {count} {name}, detected {len(boxes[name])}")
    return Outcome(not reasons, reasons)


def _wrong_colours(
    clause: Mapping[str, Any],
    objects: Sequence[BoxT],
    colour_of: Callable[[str, BoxT], str] | None,
) -> list[str]:
    if "color" not in clause:
        return []
    if colour_of is None:
        raise InputError(f"{clause['class']!r} has a colour to check: pass `colour_of`")
    colours = [colour_of(clause["class"], box) for box in objects]
    right = colours.count(clause["color"])
    if right >= clause["count"]:
        return []
    expected = f"{clause['count']} {clause['color']} {clause['class']}"
    return [f"expected {expected}, detected the colours {', '.join(colours)}"]


def _wrong_position(
    clause: Mapping[str, Any], objects: Sequence[Box], matched: Sequence[Sequence[Box] | None]
) -> list[str]:
    relation, index = clause["position"]
    if not 0 <= index < len(matched):
        raise InputError(f"the position of {clause['class']!r} names clause {index}, a later one")
    targets = matched[index]
    if targets is None:
        return [f"there is nothing for {clause['class']} to be {relation}"]
    for box in objects:
        for target in targets:
            relations = relative_position(box, target)
            if relation not in relations:
                actual = " and ".join(sorted(relations)) or "neither"
                return [f"expected {clause['class']} {relation}, detected {actual}"]
    return []


def relative_position(box: Box, other: Box) -> set[str]:
    """Return how a box lies relative to another: left of, right of, above, below, or none.

    The offset of the centres is reduced by a tenth of both sizes, and divided by its length before
    that; a relation holds where the quotient exceeds 0.5.

    >>> relative_position([0, 0, 10, 10], [50, 0, 60, 10])
    {'left of'}
    """
    corners = np.asarray([box[:4], other[:4]], dtype=np.float64).reshape(2, 2, 2)
    centres = corners.mean(axis=1)
    sizes = np.abs(corners[:, 1] - corners[:, 0])
    offset = centres[0] - centres[1]
    reduced = np.maximum(np.abs(offset) - POSITION_THRESHOLD * sizes.sum(axis=0), 0)
    reduced *= np.sign(offset)
    if (np.abs(reduced) < 1e-3).all():
        return set()
    across, down = reduced / np.linalg.norm(offset)
    names = {"left of": -across, "right of": across, "above": -down, "below": down}
    return {name for name, share in names.items() if share > 0.5}


def intersection_over_union(box: Box, other: Box) -> float:
    """Return the shared area of two boxes over their joint one, both edges included, 0 to 1.

    >>> intersection_over_union([0, 0, 9, 9], [0, 0, 9, 4])
    0.5
    """

    def area(left: float, top: float, right: float, bottom: float) -> float:
        return max(right - left + 1, 0) * max(bottom - top + 1, 0)

    shared = area(
        max(box[0], other[0]),
        max(box[1], other[1]),
        min(box[2], other[2]),
        min(box[3], other[3]),
    )
    joint = area(*box[:4]) + area(*other[:4]) - shared
    return shared / joint if joint else 0.0
