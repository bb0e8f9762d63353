"""Which images of which prompts are made, what their files are called, and their seeds."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from t2v_eval.errors import InputError


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image to make.

    Attributes:
        file: its name in the folder.
        prompt: what it is made from.
        seed: the seed of its noise.

    >>> PlannedImage("00000_0.png", "a cat", 7).seed
    7
    """

    file: str
    prompt: str
    seed: int


def plan_images(
    prompts: Mapping[str, str], per_prompt: int = 1, seed: int = 0
) -> list[PlannedImage]:
    """Return the images to make, prompt by prompt.

    Args:
        prompts: the prompts by the name of their images.
        per_prompt: the number of images of each prompt, 1 or more.
        seed: the seed of the whole set, 0 or more.

    Raises:
        InputError: a number is out of its range.

    >>> [image.file for image in plan_images({"00000": "a cat", "00001": "a dog"}, per_prompt=2)]
    ['00000_0.png', '00000_1.png', '00001_0.png', '00001_1.png']
    """
    for argument, value, lowest in (("per_prompt", per_prompt, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise InputError(f"`{argument}={value!r}`: pass a whole number of at least {lowest}")
    times: Counter[str] = Counter()
    images = []
    for name, prompt in prompts.items():
        for index in range(per_prompt):
            image_seed = seed_of(seed, prompt, index, times[prompt])
            images.append(PlannedImage(f"{name}_{index}.png", prompt, image_seed))
        times[prompt] += 1
    return images


def seed_of(seed: int, prompt: str, index: int, repetition: int = 0) -> int:
    """Return the seed of an image, from 0 to 2**31 - 1.

    It follows from the image's own prompt, so that neither order nor batches nor other prompts
    change an image.

    Args:
        seed: the seed of the whole set.
        prompt: the prompt.
        index: which image of the prompt it is, from 0.
        repetition: how often the same prompt stands before this one in the set.

    >>> seed_of(0, "a cat", 0)
    2021834377
    >>> seed_of(0, "a cat", 0) == seed_of(0, "a cat", 1)
    False
    """
    text = json.dumps([seed, prompt, index, repetition])
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1  # services take no more than 31 bits


def hash_prompts(prompts: Mapping[str, str]) -> str:
    """Return the SHA-256 of names and prompts, in their order, as 64 hex digits.

    >>> hash_prompts({"00000": "a cat"})[:8]
    '0279bd4f'
    """
    return hashlib.sha256(json.dumps([*prompts.items()]).encode()).hexdigest()
