"""Training data: drawn scenes with captions, questions and per-patch targets.

Every batch follows from (seed, stage, step), so a resumed run continues with the same batches.
Colour-shape combinations that are held out are neither drawn nor named here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from t2v_eval.benchmarks.forms import drawn_scenes as sc

# CLIP's constants; the shipped preprocessor_config.json says the same.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

SKILLS = tuple(sc.SKILLS)
# Relations and counts are slow to learn, negation is fast.
SLOW = ("relation",) * 3 + ("count",) * 4 + ("composition",) * 2
QUESTION_SKILLS = (*SLOW, "attribute", "size", "negation")

PREFIXES = ("A photo depicts ", "a picture of ", "a photo of ")  # CLIPScore's own comes first

TEMPLATES = (  # (question, yes, no); the first is CLIP-FlanT5's
    ('Does this figure show "{}"? Please answer yes or no.', "Yes", "No"),
    ('Does this figure show "{}"?', "Yes", "No"),
    ('Does this image show "{}"?', "Yes", "No"),
    ('Does this image show "{}"? Answer the question with Yes or No.', "Yes", "No"),
    ('Is this "{}"? Please answer yes or no.', "Yes", "No"),
    ("Is there {} in this picture?", "Yes", "No"),
    ("{}?", "Yes", "No"),
    ('Question: Does this figure show "{}"? Please answer yes or no.', "yes", "no"),
    ('Question: Is this "{}"?', "yes", "no"),
)
DESCRIBE = ("Describe the figure.", "Describe this image.", "")  # "" is VisualGPTScore's question
ORDERS = {
    "List the things from left to right.": "x",
    "List the things from top to bottom.": "y",
}
ORDINALS = ("one", "two", "three", "four", "five", "six")
GRID = 6  # patches in a row
PATCH = sc.SIDE // GRID


@dataclass(frozen=True, slots=True)
class ClaimedScene:
    """A scene, a claim that holds in it and the swapped claim, which does not."""

    scene: sc.Scene
    claim: sc.Claim
    swap: sc.Claim


@dataclass(frozen=True, slots=True)
class QA:
    """A question about an image with its answer."""

    question: str
    answer: str


def generator(seed: int, stage: str, step: int) -> random.Random:
    """Return the random generator of a training step.

    >>> generator(0, "tower", 5).random() == generator(0, "tower", 5).random()
    True
    """
    return random.Random(f"train/{stage}/{seed}/{step}")


def sample(rng: random.Random, skill: str) -> tuple[ClaimedScene, ClaimedScene]:
    """Sample both halves of an item in the benchmark's form, without held-out combinations.

    >>> first, second = sample(generator(0, "tower", 0), "attribute")
    >>> first.claim == second.swap and first.claim.holds(first.scene)
    True
    """
    claim, swap = sc.sample_claims(rng, skill, sc.TRAINING_PAIRS)
    return (
        ClaimedScene(sc.sample_scene(rng, claim, swap), claim, swap),
        ClaimedScene(sc.sample_scene(rng, swap, claim), swap, claim),
    )


def render(rng: random.Random, examples: Sequence[ClaimedScene]) -> Tensor:
    """Draw scenes as normalised pixels (N, 3, H, W).

    >>> rng = generator(0, "tower", 0)
    >>> render(rng, [sample(rng, "attribute")[0]]).shape
    torch.Size([1, 3, 48, 48])
    """
    return normalise(np.stack([sc.pixels(rng, example.scene) for example in examples]))


def normalise(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """Normalise bytes (N, H, W, 3) to pixels (N, 3, H, W) as CLIP's processor does at this size.

    >>> normalise(np.zeros((1, 48, 48, 3), np.uint8)).shape
    torch.Size([1, 3, 48, 48])
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def caption(rng: random.Random, claim: sc.Claim) -> str:
    """Return a claim as a caption, one in five with a prefix."""
    return (sc.pick(rng, PREFIXES) if rng.random() < 0.2 else "") + str(claim)


def patch_targets(scenes: Sequence[sc.Scene]) -> dict[str, Tensor]:
    """Return the class indices (N, patches) of the thing that covers most of each patch.

    -100 stands for none. Without these targets the tower loses positions, which neither the
    contrastive loss nor yes/no answers reward, and relations cannot be learnt.

    >>> patch_targets([])["colour"].shape
    torch.Size([0, 36])
    """
    targets = {name: np.full((len(scenes), GRID, GRID), -100) for name in PATCH_CLASSES}
    targets["here"][:] = targets["centre"][:] = 0
    edges = np.arange(GRID) * PATCH
    for i, scene in enumerate(scenes):
        best = np.full((GRID, GRID), PATCH * PATCH // 8)  # a smaller area is ignored
        for thing in scene:
            reach = sc.SIZES[thing.size] // 2
            across, down = (
                np.minimum(edges + PATCH, c + reach + 1) - np.maximum(edges, c - reach)
                for c in (thing.x, thing.y)
            )
            area = np.maximum(down, 0)[:, None] * np.maximum(across, 0)[None, :]
            won = area > best
            best[won] = area[won]
            targets["here"][i][won] = 1
            targets["centre"][i][thing.y // PATCH, thing.x // PATCH] = 1  # things are countable
            targets["colour"][i][won] = list(sc.COLOURS).index(thing.colour)
            targets["shape"][i][won] = list(sc.SHAPES).index(thing.shape)
            targets["size"][i][won] = list(sc.SIZES).index(thing.size)
            targets["x"][i][won] = thing.x // 4
            targets["y"][i][won] = thing.y // 4
    return {name: torch.from_numpy(t).flatten(1) for name, t in targets.items()}


PATCH_CLASSES = {"here": 2, "colour": 6, "shape": 5, "size": 2, "x": 12, "y": 12, "centre": 2}


def ask(rng: random.Random, example: ClaimedScene, dense: float, single: float) -> QA:
    """Sample a question with its answer.

    Dense answers (a place, a number, a list) carry far more information about an image than yes or
    no, and a model trained on swapped captions alone stays at chance.

    Args:
        rng: random generator.
        example: the scene and its claims.
        dense: share of questions with dense answers, which falls during training.
        single: share of yes/no questions about a single phrase.

    >>> rng = generator(0, "tower", 0)
    >>> ask(rng, sample(rng, "attribute")[0], dense=0.0, single=1.0).answer.lower() in ("yes", "no")
    True
    """
    chance = rng.random()
    if chance < dense:
        return _dense(rng, example)
    template, yes, no = TEMPLATES[0] if rng.random() < 0.4 else sc.pick(rng, TEMPLATES)
    if chance < dense + single:
        text, holds = _single(rng, example.scene)
    elif rng.random() < 0.6:
        holds = rng.random() < 0.5
        text = str(example.claim if holds else example.swap)
    else:
        text, holds = _any_claim(rng, example.scene)
    return QA(template.format(text), yes if holds else no)


def _single(rng: random.Random, scene: sc.Scene) -> tuple[str, bool]:
    """Sample a phrase; a false one recombines what the image has, so no word gives it away."""
    want = rng.random() < 0.5
    for _ in range(20):
        first, second = sc.pick(rng, scene), sc.pick(rng, scene)
        if want:
            second = first
        elif rng.random() < 0.3:
            second = sc.sample_thing(rng)
        size = sc.pick(rng, ("", "", second.size))
        phrase = sc.Phrase("a", first.colour, second.shape, size)
        if phrase.pair in sc.TRAINING_PAIRS and phrase.holds(scene) == want:
            return str(phrase), want
    phrase = sc.Phrase("a", *first.pair)
    return str(phrase), True


def _any_claim(rng: random.Random, scene: sc.Scene) -> tuple[str, bool]:
    """Sample a claim about two things of the scene, its swap, or one with another relation."""
    if len({thing.pair for thing in scene}) < 2:
        return _single(rng, scene)
    while True:
        first, second = sc.pick(rng, scene), sc.pick(rng, scene)
        if first.pair != second.pair:
            break
    joint = sc.pick(rng, (*sc.RELATIONS, "and"))
    sizes = (first.size, second.size) if rng.random() < 0.3 else ("", "")
    claim = sc.Claim(
        sc.Phrase("a", *first.pair, sizes[0]), joint, sc.Phrase("a", *second.pair, sizes[1])
    )
    if rng.random() < 0.5:
        other = claim.swapped(sc.pick(rng, (("colour",), ("shape",), ("size",))))
        claim = other if set(other.pairs) <= set(sc.TRAINING_PAIRS) else claim
    return str(claim), claim.holds(scene)


def _dense(rng: random.Random, example: ClaimedScene) -> QA:
    scene = example.scene
    pairs = [thing.pair for thing in scene]
    unique = [thing for thing in scene if pairs.count(thing.pair) == 1]
    chance = rng.random()
    if chance < 0.12:
        return QA(sc.pick(rng, DESCRIBE), str(example.claim))
    if chance < 0.27:
        question = sc.pick(rng, tuple(ORDERS))
        ordered = sorted(scene, key=lambda thing: int(getattr(thing, ORDERS[question])))
        return QA(question, ", ".join(f"{t.size} {t.colour} {t.shape}" for t in ordered))
    if chance < 0.39 or not unique:
        thing = sc.pick(rng, scene)
        count = sum(pair == thing.pair for pair in pairs)
        noun = sc.SHAPES[thing.shape]
        return QA(f"How many {thing.colour} {noun} are there?", ORDINALS[count - 1])
    thing = sc.pick(rng, unique)
    name = f"{thing.colour} {thing.shape}"
    if chance < 0.55:
        row, column = ORDINALS[thing.y // PATCH], ORDINALS[thing.x // PATCH]
        return QA(f"Where is the {name}?", f"row {row} column {column}")
    if chance < 0.80 and len(unique) > 1:
        other = sc.pick(rng, [candidate for candidate in unique if candidate is not thing])
        question = f"Where is the {name} from the {other.colour} {other.shape}?"
        return QA(question, f"{_side(thing, other, 'x')} {_side(thing, other, 'y')}")
    kind = sc.pick(rng, ("colour", "shape", "size"))
    if kind == "size":
        return QA(f"What size is the {name}?", thing.size)
    if kind == "colour":
        if [t.shape for t in scene].count(thing.shape) == 1:
            return QA(f"What color is the {thing.shape}?", thing.colour)
    elif [t.colour for t in scene].count(thing.colour) == 1:
        return QA(f"What shape is the {thing.colour} thing?", thing.shape)
    return QA("How many things are there?", ORDINALS[len(scene) - 1])


def _side(thing: sc.Thing, other: sc.Thing, axis: str) -> str:
    words = {"x": ("left", "right"), "y": ("above", "below")}[axis]
    offset = int(getattr(thing, axis)) - int(getattr(other, axis))
    return "level" if abs(offset) < sc.CLEARANCE else words[offset > 0]


def vocabulary() -> list[str]:
    """Return every word that occurs in training, in a fixed order, for the tokenizers.

    >>> {"circle", "yes", "left"} <= {word.lower() for word in vocabulary()}
    True
    """
    texts = [*sc.COLOURS, *sc.SIZES, *sc.NUMBERS, *sc.RELATIONS, *ORDINALS, *PREFIXES, *ORDERS]
    texts += [word for pair in sc.SHAPES.items() for word in pair]
    texts += [word for template in TEMPLATES for word in template]
    texts += [*DESCRIBE, "a an the and with many more than level row column USER: ASSISTANT:"]
    texts += ["How many are there? Where is the from the? What color size shape is the thing?"]
    words = " ".join(texts).replace("{}", " ").replace('"', ' " ')
    for mark in "?.,:":
        words = words.replace(mark, f" {mark} ")
    return sorted(set(words.split()))
