"""Drawn scenes: their things, pixels, captions and items.

A scene is a handful of coloured shapes on a light ground, 48 x 48 pixels. An item is in
Winoground's form: two images and two captions made of the same words in another order, each
caption true of its own image and false of the other. A scorer that ignores word
order cannot distinguish the captions, so the items measure compositionality.

Everything follows from a seed and from integer arithmetic, so that every machine draws the same
pixels. The standard library's generator is used because Python promises that ``random()`` keeps
its sequence between versions, which NumPy does not promise for its own; a test pins the pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

T = TypeVar("T")

SIDE = 48
COLOURS = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 210),
    "yellow": (240, 200, 30),
    "purple": (148, 60, 180),
    "black": (30, 30, 34),
}
SHAPES = {  # singular and plural: a caption that counts needs both
    "circle": "circles",
    "square": "squares",
    "triangle": "triangles",
    "cross": "crosses",
    "ring": "rings",
}
SIZES = {"small": 9, "large": 15}  # sides in pixels
NUMBERS = {"no": 0, "two": 2, "three": 3, "four": 4}  # "a" means at least one
RELATIONS = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
CLEARANCE = 12  # pixels between two centres from which on a spatial relation holds
MAX_THINGS = 6  # things in a scene

PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
# Neither drawn nor named in training. Every shape and all colours but one occur once, so that each
# word is well known and only the combination is new.
HELD_OUT = frozenset(
    {
        ("red", "triangle"),
        ("green", "ring"),
        ("blue", "cross"),
        ("yellow", "circle"),
        ("purple", "square"),
    }
)
TRAINING_PAIRS = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

# What the second caption of an item exchanges between its two phrases.
SKILLS = {
    "attribute": ("colour",),
    "relation": ("colour", "shape"),
    "size": ("size",),
    "count": ("number",),
    "negation": ("colour", "shape"),
    "composition": ("colour",),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in a scene; ``x`` and ``y`` are the pixel of its centre.

    >>> Thing("red", "circle", "large").pair
    ('red', 'circle')
    """

    colour: str
    shape: str
    size: str
    x: int = 0
    y: int = 0

    @property
    def pair(self) -> tuple[str, str]:
        """Return colour and shape."""
        return self.colour, self.shape


Scene = tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase, such as "a small red circle", "two blue rings" or "no green cross".

    >>> str(Phrase("two", "blue", "ring"))
    'two blue rings'
    """

    number: str
    colour: str
    shape: str
    size: str = ""

    def __str__(self) -> str:
        noun = SHAPES[self.shape] if NUMBERS.get(self.number, 0) > 1 else self.shape
        return " ".join(word for word in (self.number, self.size, self.colour, noun) if word)

    @property
    def pair(self) -> tuple[str, str]:
        """Return colour and shape."""
        return self.colour, self.shape

    def matches(self, thing: Thing) -> bool:
        """Return whether a thing has the colour, the shape and, if it is named, the size."""
        return thing.pair == self.pair and self.size in ("", thing.size)

    def holds(self, scene: Scene) -> bool:
        """Return whether a scene has as many matching things as the phrase says."""
        count = sum(map(self.matches, scene))
        return count == NUMBERS[self.number] if self.number in NUMBERS else count > 0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a caption says: two phrases joined by "and" or by a spatial relation.

    >>> claim = Claim(Phrase("a", "red", "circle"), "and", Phrase("a", "blue", "ring"))
    >>> str(claim.swapped(["colour"]))
    'a blue circle and a red ring'
    """

    first: Phrase
    joint: str
    second: Phrase

    def __str__(self) -> str:
        return f"{self.first} {self.joint} {self.second}"

    @property
    def pairs(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return colour and shape of both phrases."""
        return self.first.pair, self.second.pair

    def swapped(self, fields: Sequence[str]) -> Claim:
        """Return the claim with ``fields`` exchanged between its two phrases."""
        first = {field: getattr(self.second, field) for field in fields}
        second = {field: getattr(self.first, field) for field in fields}
        return Claim(replace(self.first, **first), self.joint, replace(self.second, **second))

    def holds(self, scene: Scene) -> bool:
        """Return whether both phrases hold of a scene, and their relation, if there is one."""
        if not (self.first.holds(scene) and self.second.holds(scene)):
            return False
        if self.joint not in RELATIONS:
            return True
        dx, dy = RELATIONS[self.joint]
        return any(
            (thing.x - other.x) * dx + (thing.y - other.y) * dy >= CLEARANCE
            for thing in scene
            if self.first.matches(thing)
            for other in scene
            if self.second.matches(other)
        )


@dataclass(frozen=True, slots=True)
class SceneItem:
    """Two scenes and two claims: ``images[i]`` draws ``scenes[i]``; there ``claims[i]`` holds.

    >>> item = items(1)[0]
    >>> len(item.texts), item.images[0].size == (SIDE, SIDE)
    (2, True)
    """

    skill: str
    scenes: tuple[Scene, Scene]
    claims: tuple[Claim, Claim]
    images: tuple[Image.Image, Image.Image]

    @property
    def texts(self) -> tuple[str, str]:
        """Return the claims as captions."""
        return str(self.claims[0]), str(self.claims[1])

    @property
    def held_out(self) -> bool:
        """Return whether a colour-shape combination held out of training is named or drawn."""
        named = {pair for claim in self.claims for pair in claim.pairs}
        depicted = {thing.pair for scene in self.scenes for thing in scene}
        return bool((named | depicted) & HELD_OUT)


def items(n: int = 600, seed: int = 0) -> list[SceneItem]:
    """Return ``n`` items, the skills in turn. Item i depends on ``seed`` and i, not on ``n``.

    >>> [item.skill for item in items(2)] == list(SKILLS)[:2]
    True
    """
    skills = list(SKILLS)
    return [
        make_item(random.Random(f"scenes/{seed}/{i}"), skills[i % len(skills)]) for i in range(n)
    ]


def make_item(
    rng: random.Random, skill: str, pairs: Sequence[tuple[str, str]] = PAIRS
) -> SceneItem:
    """Draw an item of a skill at random, with things of these colours and shapes.

    >>> skill = next(iter(SKILLS))
    >>> make_item(random.Random(0), skill).skill == skill
    True
    """
    claim, other = sample_claims(rng, skill, pairs)
    scenes = sample_scene(rng, claim, other), sample_scene(rng, other, claim)
    return SceneItem(skill, scenes, (claim, other), (draw(rng, scenes[0]), draw(rng, scenes[1])))


def sample_claims(
    rng: random.Random, skill: str, pairs: Sequence[tuple[str, str]] = PAIRS
) -> tuple[Claim, Claim]:
    """Return a claim and its swap; both name only colour-shape combinations in ``pairs``.

    >>> first, second = sample_claims(random.Random(0), next(iter(SKILLS)))
    >>> str(first) != str(second)
    True
    """
    while True:
        claim = _claim(rng, skill, pick(rng, pairs), pick(rng, pairs))
        other = claim.swapped(SKILLS[skill])
        (colour, shape), (colour2, shape2) = claim.pairs
        # Both must differ: with one colour in common, the swap of colours would change nothing.
        if colour != colour2 and shape != shape2 and set(other.pairs) <= set(pairs):
            return claim, other


def _claim(
    rng: random.Random, skill: str, first_pair: tuple[str, str], second_pair: tuple[str, str]
) -> Claim:
    numbers, sizes, joint = ("a", "a"), ("", ""), "and"
    form = skill
    if skill == "composition":  # the swap of colours, with a second thing to keep in its place
        form = pick(rng, ("relation", "size", "count"))
    if form == "relation":
        joint = pick(rng, tuple(RELATIONS))
    elif form == "size":
        sizes = pick(rng, (("small", "large"), ("large", "small")))
    elif form == "count":
        numbers = pick(rng, (("two", "three"), ("three", "two"), ("two", "four"), ("four", "two")))
    elif form == "negation":
        numbers = ("a", "no")
    return Claim(
        Phrase(numbers[0], *first_pair, sizes[0]), joint, Phrase(numbers[1], *second_pair, sizes[1])
    )


def sample_scene(rng: random.Random, claim: Claim, unless: Claim | None = None) -> Scene:
    """Return a scene in which ``claim`` holds and ``unless`` does not, with up to two more things.

    The additional things are never held-out combinations, so that the captions alone decide whether
    an item is new to a model.

    >>> claim, other = sample_claims(random.Random(0), next(iter(SKILLS)))
    >>> scene = sample_scene(random.Random(0), claim, unless=other)
    >>> claim.holds(scene), other.holds(scene)
    (True, False)
    """
    named = [
        Thing(*phrase.pair, phrase.size or pick(rng, tuple(SIZES)))
        for phrase in (claim.first, claim.second)
        for _ in range(NUMBERS.get(phrase.number, 1))
    ]
    while True:
        more = min(int(rng.random() * 3), MAX_THINGS - len(named))
        scene = place(rng, [*named, *(sample_thing(rng) for _ in range(more))])
        if scene and claim.holds(scene) and not (unless and unless.holds(scene)):
            return scene


def sample_thing(rng: random.Random) -> Thing:
    """Return a thing of random size, with a colour and shape of the training pairs.

    >>> sample_thing(random.Random(0)).pair in TRAINING_PAIRS
    True
    """
    return Thing(*pick(rng, TRAINING_PAIRS), pick(rng, tuple(SIZES)))


def place(rng: random.Random, things: Sequence[Thing]) -> Scene | None:
    """Place things at random without overlap; None when they do not fit.

    >>> len(place(random.Random(0), [Thing("red", "circle", "small")]))
    1
    """
    placed: list[Thing] = []
    for thing in sorted(things, key=lambda thing: -SIZES[thing.size]):  # the large ones fit first
        for _ in range(40):
            reach = SIZES[thing.size] // 2
            free = SIDE - 2 * reach
            x, y = reach + int(rng.random() * free), reach + int(rng.random() * free)
            if all(
                max(abs(x - other.x), abs(y - other.y)) > reach + SIZES[other.size] // 2 + 1
                for other in placed
            ):
                placed.append(replace(thing, x=x, y=y))
                break
        else:
            return None
    return tuple(placed)


def draw(rng: random.Random, scene: Scene) -> Image.Image:
    """Return an image of a scene; see `pixels`.

    >>> draw(random.Random(0), (Thing("red", "circle", "small", 24, 24),)).size
    (48, 48)
    """
    return Image.fromarray(pixels(rng, scene))


def pixels(rng: random.Random, scene: Scene) -> NDArray[np.uint8]:
    """Draw the scene (H, W, 3): a jittered light ground, jittered colours, noise over both.

    >>> pixels(random.Random(0), ()).shape
    (48, 48, 3)
    """
    ground = 205 + int(rng.random() * 36)
    canvas = np.empty((SIDE, SIDE, 3), np.int32)
    canvas[:] = ground + _jitter(rng, 8)
    for thing in scene:
        mask, reach = _sprite(thing.shape, SIZES[thing.size]), SIZES[thing.size] // 2
        colour = np.array(COLOURS[thing.colour], np.int32) + _jitter(rng, 14)
        spot = canvas[thing.y - reach : thing.y + reach + 1, thing.x - reach : thing.x + reach + 1]
        spot += (mask * (colour - spot) + 32) >> 6
    noise = np.frombuffer(rng.randbytes(canvas.size), np.uint8).reshape(canvas.shape)
    return np.clip(canvas + (noise >> 4).astype(np.int32) - 8, 0, 255).astype(np.uint8)


def _jitter(rng: random.Random, reach: int) -> NDArray[np.int32]:
    return np.array([int(rng.random() * (2 * reach + 1)) - reach for _ in range(3)], np.int32)


@cache
def _sprite(shape: str, side: int) -> NDArray[np.int32]:
    """Count how many of the 8 x 8 sub-pixels of each pixel the shape covers (0 to 64).

    Integers throughout: a comparison of floats may fall differently on another machine.
    """
    n = 8 * side
    axis = 2 * np.arange(n, dtype=np.int64) + 1 - n
    u, v = axis[None, :], axis[:, None]
    radius = u * u + v * v
    inside = {
        "circle": radius <= n * n,
        "square": np.maximum(abs(u), abs(v)) * 10 <= n * 9,
        "triangle": 2 * abs(u) <= v + n,
        "cross": np.minimum(abs(u), abs(v)) * 3 <= n,
        "ring": (radius <= n * n) & (radius * 4 >= n * n),
    }[shape]
    covered: NDArray[np.int32] = inside.reshape(side, 8, side, 8).sum(axis=(1, 3), dtype=np.int32)
    return covered[:, :, None]


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """Return one of the options at random, by one number that is the same in every Python.

    >>> pick(random.Random(0), ["only"])
    'only'
    """
    return options[int(rng.random() * len(options))]
