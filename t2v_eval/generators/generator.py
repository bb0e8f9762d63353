"""Generators: what makes an image of a prompt."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from PIL import Image

from t2v_eval.errors import InputError

MAX_SIDE = 16384  # pixels of a side of an image


@dataclass(frozen=True, slots=True)
class Generated:
    """The image of a prompt, or the reason why there is none.

    Attributes:
        number: the index of the prompt in the call of `Generator.generate`.
        image: the image; None where it failed.
        error: the reason; None where it did not fail.
        notes: what else is known of it, such as the prompt that a service made of it.

    >>> Generated(0, Image.new("RGB", (4, 4))).error is None
    True
    """

    number: int
    image: Image.Image | None = None
    error: Exception | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Generator(ABC):
    """Make images of prompts.

    Attributes:
        remote: whether prompts are sent to an API, which may cost money.

    >>> class Grey(Generator):
    ...     def facts(self):
    ...         return {"pipeline": "grey"}
    ...
    ...     def generate(self, prompts, seeds):
    ...         for number, seed in enumerate(seeds):
    ...             yield Generated(number, Image.new("L", (8, 8), seed % 256))
    >>> [made.image.size for made in Grey().generate(["a cat"], [0])]
    [(8, 8)]
    """

    remote: ClassVar[bool] = False

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """Return all that decides an image besides prompt and seed, as JSON; see `Recipe`."""

    @abstractmethod
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[Generated]:
        """Yield one image of each prompt, in any order, as they are made.

        Args:
            prompts: N prompts.
            seeds: N seeds.

        Raises:
            T2VError: no image can be made, such as where memory or a service fails for all.
        """

    def stop(self) -> None:
        """Begin no further image of the running `generate`; those on their way are still yielded.

        Only generators whose images are made at the same time need it.
        """
        return None

    def close(self) -> None:
        """Free what the generator holds, such as memory of a GPU; it can be used again."""
        return None


def check_sampling(
    steps: int | None = None,
    guidance_scale: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> None:
    """Check the settings that all generators share; None stands for the generator's own.

    Args:
        steps: the number of steps.
        guidance_scale: the weight of the prompt.
        height: pixels.
        width: pixels.

    Raises:
        InputError: a number is out of its range.

    >>> check_sampling(steps=20, guidance_scale=7.5)
    """
    for name, value, highest in (
        ("steps", steps, 100_000),
        ("height", height, MAX_SIDE),
        ("width", width, MAX_SIDE),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 1 <= value <= highest):
            raise InputError(f"`{name}={value!r}`: pass a whole number from 1 to {highest}")
    scale = guidance_scale
    number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
    if scale is not None and not (number and 0 <= scale < float("inf")):
        raise InputError(f"`guidance_scale={scale!r}`: pass a number of 0 or more")


def check_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that a recipe can hold.

    Args:
        options: the options by name.

    Raises:
        InputError: JSON cannot hold one of them.

    >>> check_json({"eta": 0.5})
    {'eta': 0.5}
    """
    for name, value in options.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise InputError(f"`{name}={value!r}`: pass what JSON can hold") from None
    return dict(options)
