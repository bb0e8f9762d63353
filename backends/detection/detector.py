"""What a detector of objects is, and the names of classes that detectors have in common."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import override

from t2v_eval.errors import InputError

# Other names of a class, in the checkpoints of the hub and in GenEval's object_names.txt.
SYNONYMS = (
    ("airplane", "aeroplane"),
    ("cell phone", "mobile phone"),
    ("computer keyboard", "keyboard"),
    ("computer mouse", "mouse"),
    ("couch", "sofa"),
    ("donut", "doughnut"),
    ("hair drier", "hair dryer"),
    ("motorcycle", "motorbike"),
    ("tv", "tv monitor", "television"),
    ("tv remote", "remote", "remote control"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Detection(Sequence[float]):
    """An object that was found: a `detection_rules.Box`, and perhaps its mask.

    Attributes:
        box: left, top, right and bottom in pixels, and the confidence, 0 to 1.
        mask: the pixels of the object, (H, W) of the image; None where only the box is known.

    >>> detection = Detection((0, 0, 9, 9, 0.8))
    >>> detection[4], detection[:2]
    (0.8, (0, 0))
    """

    box: tuple[float, float, float, float, float]
    mask: NDArray[np.bool_] | None = None

    @override
    def __len__(self) -> int:
        """Return 5."""
        return len(self.box)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    @override
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        """Return a coordinate or the confidence, or several of them."""
        return self.box[index]


@runtime_checkable
class Detector(Protocol):
    """Finds the objects of classes in images.

    What is found of a class in an image must not depend on the other classes and images of a call,
    so that a score does not depend on the other cells that are scored with it.

    Attributes:
        classes: the names of the classes that it knows; None where it takes any name.

    >>> class Everywhere:
    ...     classes = None
    ...     def identity(self):
    ...         return {"version": "1"}
    ...     def prepare(self, image):
    ...         return image.size
    ...     def detect(self, prepared, classes, minimum):
    ...         return [{name: [Detection((0, 0, *size, 1.0))] for name in names}
    ...                 for size, names in zip(prepared, classes)]
    >>> isinstance(Everywhere(), Detector)
    True
    """

    @property
    def classes(self) -> Collection[str] | None:
        """The names of the classes that it knows; None where it takes any name."""
        ...

    def identity(self) -> Mapping[str, str]:
        """Return all that decides what it finds, by name; part of the id of the scorer."""
        ...

    def prepare(self, image: Image.Image) -> Any:
        """Convert an upright RGB image to input of the network; runs in decoding threads."""
        ...

    def detect(
        self, prepared: Sequence[Any], classes: Sequence[Collection[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        """Find objects.

        Args:
            prepared: B results of `prepare`.
            classes: the classes to look for in each image.
            minimum: objects that are not more confident than this may be left out, 0 to 1.

        Returns:
            For each image the objects of each class, in any order.
        """
        ...


def match_class(name: str, labels: Collection[str]) -> str | None:
    """Return the label that means a class: its name, however it is spelled, or a synonym.

    >>> match_class("computer mouse", ["mouse", "cat"]), match_class("tv", ["tvmonitor"])
    ('mouse', 'tvmonitor')
    """
    spelled = {_letters(label): label for label in labels}
    names = [group for group in SYNONYMS if _letters(name) in map(_letters, group)]
    candidates = [name, *(other for group in names for other in group)]
    return next((spelled[key] for key in map(_letters, candidates) if key in spelled), None)


def check_classes(detector: Detector, names: Collection[str]) -> None:
    """Check that a detector knows classes.

    Raises:
        InputError: it does not know one; the message has the nearest that it knows.

    >>> from types import SimpleNamespace
    >>> check_classes(SimpleNamespace(classes={"cat", "mouse"}), ["computer mouse"])
    """
    classes = detector.classes
    if classes is None:
        return
    unknown = [name for name in names if match_class(name, classes) is None]
    if unknown:
        close = difflib.get_close_matches(unknown[0], classes, 3, cutoff=0.6)
        hint = f" (near: {', '.join(close)})" if close else ""
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise InputError(
            f"the detector knows {len(classes)} classes, and not {unknown[0]!r}{hint}{more}: use "
            "one that takes any name, such as `detector='google/owlv2-base-patch16-ensemble'`, or "
            "other classes"
        )


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
