"""The drawn benchmark: the same everywhere, and each caption true by an independent reading."""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter

import numpy as np
import pytest

from t2v_eval.benchmarks.forms import drawn_scenes as _scenes
from t2v_eval.errors import InputError
from t2v_eval.registry import benchmarks

ITEMS = _scenes.items(240, seed=5)
NUMBER_WORDS = {"no": 0, "two": 2, "three": 3, "four": 4}


def reads_true(text: str, scene: _scenes.Scene) -> bool:
    """Whether a caption is true of a scene, from its words, without the classes that made it."""
    for relation in ("left of", "right of", "above", "below"):
        if relation in text:
            first, second = (_those(part, scene) for part in text.split(f" {relation} "))
            return any(_is_placed(item, relation, two) for item in first for two in second)
    return all(_number_fits(part, scene) for part in text.split(" and "))


def _those(phrase: str, scene: _scenes.Scene) -> list[_scenes.Thing]:
    *words, noun = phrase.split()[1:]
    singular = {"crosses": "cross"}.get(noun, noun if noun == "cross" else noun.rstrip("s"))
    return [
        thing
        for thing in scene
        if thing.shape == singular and set(words) <= {thing.colour, thing.size}
    ]


def _number_fits(phrase: str, scene: _scenes.Scene) -> bool:
    number, count = phrase.split()[0], len(_those(phrase, scene))
    return count >= 1 if number == "a" else count == NUMBER_WORDS[number]


def _is_placed(item: _scenes.Thing, relation: str, two: _scenes.Thing) -> bool:
    return {
        "left of": two.x - item.x,
        "right of": item.x - two.x,
        "above": two.y - item.y,
        "below": item.y - two.y,
    }[relation] >= 12


def test_pixels_are_pinned() -> None:
    digest = hashlib.sha256()
    for item in _scenes.items(12, seed=0):
        for image in item.images:
            digest.update(np.asarray(image).tobytes())
    assert digest.hexdigest() == "79a8f82dccdee573ba52a81b24b6d916ee52dcdc9f371d71d38041aa7a155b28"


def test_smaller_set_is_a_prefix_and_seeds_differ() -> None:
    few, many, other = _scenes.items(6), _scenes.items(12), _scenes.items(6, seed=1)
    assert [item.texts for item in few] == [item.texts for item in many[:6]]
    assert [item.images[0].tobytes() for item in few] == [
        item.images[0].tobytes() for item in many[:6]
    ]
    assert [item.texts for item in few] != [item.texts for item in other]


def test_captions_share_their_words_and_differ() -> None:
    for item in ITEMS:
        first, second = item.texts
        assert Counter(first.split()) == Counter(second.split())
        assert first != second


def test_each_caption_is_true_of_its_own_scene_only() -> None:
    for item in ITEMS:
        for i, text in enumerate(item.texts):
            assert reads_true(text, item.scenes[i]), (text, item.scenes[i])
            assert not reads_true(text, item.scenes[1 - i]), (text, item.scenes[1 - i])


def test_images_show_what_scenes_say() -> None:
    """Each thing's colour fills its place; rings and crosses leave part of their square empty."""
    for item in ITEMS[:60]:
        for scene, image in zip(item.scenes, item.images, strict=True):
            assert image.size == (_scenes.SIDE, _scenes.SIDE)
            pixels = np.asarray(image).astype(int)
            for thing in scene:
                reach = _scenes.SIZES[thing.size] // 2
                spot = pixels[
                    thing.y - reach : thing.y + reach + 1, thing.x - reach : thing.x + reach + 1
                ]
                near = np.abs(spot - _scenes.COLOURS[thing.colour]).max(axis=-1) < 30
                assert 0.3 < near.mean() < 0.9


def test_things_do_not_touch() -> None:
    for item in ITEMS:
        for scene in item.scenes:
            assert 1 <= len(scene) <= _scenes.MAX_THINGS
            for i, entry in enumerate(scene):
                for two in scene[:i]:
                    apart = max(abs(entry.x - two.x), abs(entry.y - two.y))
                    assert apart > (_scenes.SIZES[entry.size] + _scenes.SIZES[two.size]) // 2


def test_held_out_combinations_are_marked_and_never_trained_on() -> None:
    data = pytest.importorskip("training.data")
    rng = random.Random(3)
    names = [f"{colour} {shape}" for colour, shape in _scenes.HELD_OUT]
    names += [f"{colour} {_scenes.SHAPES[shape]}" for colour, shape in _scenes.HELD_OUT]
    for step in range(600):
        for image in data.sample(rng, data.SKILLS[step % len(data.SKILLS)]):
            requests = data.ask(rng, image, dense=0.4, single=0.2)
            message = f"{image.claim} {image.swap} {requests.question} {requests.answer}"
            assert not any(name in message for name in names), message
            assert not {thing.pair for thing in image.scene} & _scenes.HELD_OUT
    marked = [item.held_out for item in ITEMS]
    assert marked == [any(name in text for name in names for text in i.texts) for i in ITEMS]
    assert 0.3 < np.mean(marked) < 0.6


def test_benchmark_has_a_hundred_items_a_skill() -> None:
    benchmark = benchmarks.create("scenes")
    started = time.process_time()
    items = benchmark.items()
    assert time.process_time() - started < 3
    tags = Counter(tag for item in items for tag in item.tags)
    assert tags.pop("held-out") == sum("held-out" in item.tags for item in items)
    assert tags == dict.fromkeys(_scenes.SKILLS, 100)
    assert len({item.id for item in items}) == len(items) == 600


def test_metrics_are_those_of_winoground() -> None:
    benchmark = benchmarks.create("scenes", n=6)
    items = benchmark.items()
    right, wrong = np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32)
    metrics = benchmark.metrics(items, [right] * 3 + [wrong] * 3)
    assert metrics == {"text": 0.5, "image": 0.5, "group": 0.5}


def test_no_items_is_refused() -> None:
    with pytest.raises(InputError, match="n=0"):
        benchmarks.create("scenes", n=0)
