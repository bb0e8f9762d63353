"""Two drawn generators: scenes with faults that are known, for a protocol that needs no network.

A generator draws the scene of a prompt, or, where it fails, the scene of the same words in another
order. How often it fails and how saturated its colours are is all that two of them differ in, so
what a protocol should find is known.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance

from .drawn_scenes import SKILLS, Claim, draw, sample_claims, sample_scene

Prompts = Sequence[tuple[str, Claim, Claim]]  # skill, what is asked for, and the swap of it


@dataclass(frozen=True, slots=True)
class DrawnGenerator:
    """What decides the images of a drawn generator.

    Attributes:
        name: what it is called.
        accuracy: the share of prompts whose scene it draws, 0 to 1.
        saturation: of its colours, relative to those of drawn scenes.

    >>> DrawnGenerator("new", accuracy=0.9, saturation=0.8).name
    'new'
    """

    name: str
    accuracy: float
    saturation: float


def draw_prompts(count: int, seed: int) -> Prompts:
    """Draw the prompts, the skills in turn.

    >>> [skill for skill, _, _ in draw_prompts(2, seed=0)] == list(SKILLS)[:2]
    True
    """
    rng = random.Random(f"demo/{seed}/prompts")
    skills = list(SKILLS)
    return [(skill, *sample_claims(rng, skill)) for n in range(count) for skill in (skills[n % 6],)]


def draw_images(
    generator: DrawnGenerator, prompts: Prompts, seeds: int, seed: int, folder: Path
) -> list[list[bool]]:
    """Draw the images of a generator, a folder for each of its seeds.

    Args:
        generator: the generator.
        prompts: the prompts.
        seeds: the number of images of each prompt.
        seed: of the whole draw.
        folder: where to write seed_0/000.png and so on.

    Returns:
        [seed][prompt]: whether the image is what its prompt says.
    """
    correct: list[list[bool]] = []
    for number in range(seeds):
        place = folder / f"seed_{number}"
        place.mkdir(parents=True, exist_ok=True)
        rng = random.Random(f"demo/{seed}/{generator.name}/{number}")
        correct.append([])
        for n, (_, claim, other) in enumerate(prompts):
            succeeds = rng.random() < generator.accuracy
            first, second = (claim, other) if succeeds else (other, claim)
            image = draw(rng, sample_scene(rng, first, second))
            faded(image, generator.saturation).save(place / f"{n:03d}.png")
            correct[-1].append(succeeds)
    return correct


def draw_reference(prompts: Prompts, seed: int, folder: Path) -> None:
    """Draw a scene of each prompt as it should be, a sub-folder for each skill.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_reference(draw_prompts(6, 0), 0, Path(folder))
    ...     len(list(Path(folder).glob("*/*.png")))
    6
    """
    rng = random.Random(f"demo/{seed}/reference")
    for n, (skill, claim, other) in enumerate(prompts):
        place = folder / skill
        place.mkdir(parents=True, exist_ok=True)
        draw(rng, sample_scene(rng, claim, other)).save(place / f"{n:03d}.png")


def faded(image: Image.Image, saturation: float) -> Image.Image:
    """Return an image with its colours mixed with grey, or brighter.

    >>> faded(Image.new("RGB", (1, 1), (255, 0, 0)), 0.0).getpixel((0, 0))
    (76, 76, 76)
    """
    return ImageEnhance.Color(image).enhance(saturation)
