"""Choose what people judge: pairs of images of one prompt, or single images, in random order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, cycle, zip_longest
from typing import TypeVar

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.evaluation.benchmark import Benchmark

T = TypeVar("T")

MAX_ATTENTION = 0.5  # of the tasks, so that most are about generators
ID_BITS = 40


@dataclass(frozen=True, slots=True)
class PromptImages:
    """The images that generators made of a prompt.

    Attributes:
        prompt: the id of the prompt.
        text: the prompt.
        images: the paths of the images of each generator that has some.

    >>> PromptImages("0", "a cat", {"sdxl": ["sdxl/0.png"]}).text
    'a cat'
    """

    prompt: str
    text: str
    images: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An image of a task.

    Attributes:
        generator: the name of the generator that made it.
        path: its file.
        degraded: whether people see it made unrecognisable, as an attention check.

    >>> TaskImage("sdxl", "sdxl/0.png").degraded
    False
    """

    generator: str
    path: str
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What a person judges at once: a prompt with two images, or with one.

    Attributes:
        id: ten random hexadecimal digits, which say nothing about the images.
        prompt: the id of the prompt.
        text: the prompt.
        images: the image, or the left one and the right one.

    >>> Task("0123456789", "0", "a cat", (TaskImage("sdxl", "sdxl/0.png"),)).is_attention
    False
    """

    id: str
    prompt: str
    text: str
    images: tuple[TaskImage, ...]

    @property
    def is_attention(self) -> bool:
        """Whether it checks attention, so that its answer says nothing about generators."""
        return any(image.degraded for image in self.images)


def images_of_prompts(benchmark: Benchmark) -> list[PromptImages]:
    """Return the images of each prompt by generator, of the selected items of a set of prompts.

    Raises:
        UnsupportedError: the benchmark has images of its own.
        BenchmarkDataError: its files, or images of prompts, are missing.

    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> images_of_prompts(open_benchmark("scenes", n=3))
    Traceback (most recent call last):
    t2v_eval.errors.UnsupportedError: scenes has images of its own; pass a set of prompts, or a \
file of prompts, with the images of generators as `images=`
    """
    items = benchmark.selected()
    names = [folder.folder for folder in benchmark.selection.folders]
    if not names:
        raise UnsupportedError(
            f"{benchmark.name} has images of its own; pass a set of prompts, or a file of prompts, "
            "with the images of generators as `images=`"
        )
    prompts = []
    for item in items:
        images: dict[str, list[str]] = {}
        for folder, path in zip(item.labels["folder"], item.images, strict=True):
            images.setdefault(names[folder], []).append(str(path))
        prompts.append(PromptImages(item.id, item.texts[0], images))
    return prompts


def plan_pairs(
    prompts: Sequence[PromptImages],
    pairs: int | None = None,
    attention: float = 0.05,
    seed: int = 0,
) -> list[Task]:
    """Choose pairs of images of one prompt, by two generators each, in random order.

    The k-th image of a generator meets the k-th of another. Each pair of generators has the same
    number of pairs, as far as there are images, and each of its two is on the left in half of them.

    Args:
        prompts: the images of each prompt.
        pairs: how many pairs to choose at most; None for all.
        attention: how many pairs to add for each of these, 0 to 0.5: an image beside the same image
            made unrecognisable. Where it is above 0, there is at least one.
        seed: the random seed, 0 or more.

    Raises:
        InputError: a number is out of its range, or no prompt has images of two generators.

    >>> images = {"a": ["a/0.png"], "b": ["b/0.png"]}
    >>> tasks = plan_pairs([PromptImages(str(n), "a cat", images) for n in range(4)], pairs=2)
    >>> len(tasks), sum(task.is_attention for task in tasks)
    (3, 1)
    """
    check_choice(pairs, "pairs", attention, seed)
    rng = random.Random(seed)
    prompts = rng.sample(list(prompts), len(prompts))
    names = sorted({name for prompt in prompts for name in prompt.images})
    columns = [_pairs_of(prompts, a, b) for a, b in combinations(names, 2)]
    if not any(columns):
        raise InputError(
            "no prompt has images of two generators: pass the folders of at least two as `images=`"
        )
    # Each starts at another prompt, so that few pairs are of many prompts.
    columns = [_rotate(column, k * len(column) // len(columns)) for k, column in enumerate(columns)]
    tasks = []
    for column in _take_in_turn(columns, pairs):
        sides = cycle(rng.sample([1, -1], 2))
        tasks += [
            replace(task, images=task.images[::side])
            for task, side in zip(column, sides, strict=False)
        ]
    checks = []
    for task in _chosen(tasks, attention, rng):
        intact = rng.choice(task.images)
        both = intact, replace(intact, degraded=True)
        checks.append(replace(task, images=both[:: rng.choice([1, -1])]))
    return in_random_order(tasks + checks, rng)


def plan_ratings(
    prompts: Sequence[PromptImages],
    limit: int | None = None,
    attention: float = 0.05,
    seed: int = 0,
) -> list[Task]:
    """Choose single images in random order; each generator has the same number, if there are.

    Args:
        prompts: the images of each prompt.
        limit: how many images to choose at most; None for all.
        attention: how many images to add for each of these, 0 to 0.5: an image made unrecognisable.
            Where it is above 0, there is at least one.
        seed: the random seed, 0 or more.

    Raises:
        InputError: a number is out of its range, or there is no image.

    >>> tasks = plan_ratings([PromptImages("0", "a cat", {"a": ["a.png"], "b": ["b.png"]})])
    >>> sorted(task.images[0].degraded for task in tasks)
    [False, False, True]
    """
    check_choice(limit, "limit", attention, seed)
    rng = random.Random(seed)
    by_name: dict[str, list[Task]] = {}
    for prompt in rng.sample(list(prompts), len(prompts)):
        for name, paths in prompt.images.items():
            by_name.setdefault(name, []).extend(
                Task("", prompt.prompt, prompt.text, (TaskImage(name, path),)) for path in paths
            )
    if not by_name:
        raise InputError("no prompt has an image: pass the folder of images as `images=`")
    tasks = [
        task
        for column in _take_in_turn([by_name[name] for name in sorted(by_name)], limit)
        for task in column
    ]
    checks = [
        replace(task, images=(replace(task.images[0], degraded=True),))
        for task in _chosen(tasks, attention, rng)
    ]
    return in_random_order(tasks + checks, rng)


def check_choice(count: int | None, name: str, attention: float, seed: int) -> None:
    """Check the numbers by which tasks are chosen.

    Args:
        count: how many at most, 1 or more; None for all.
        name: the argument that says so.
        attention: the share of attention checks, 0 to 0.5.
        seed: the random seed, 0 or more.

    Raises:
        InputError: a number is out of its range.

    >>> check_choice(0, "pairs", 0.05, 0)
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `pairs=0`: pass a whole number of at least 1
    """
    for argument, value, lowest in ((name, count, 1), ("seed", seed, 0)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= lowest):
            raise InputError(f"`{argument}={value!r}`: pass a whole number of at least {lowest}")
    if not 0 <= attention <= MAX_ATTENTION:
        raise InputError(f"`attention={attention!r}`: pass a share from 0 to {MAX_ATTENTION}")


def _pairs_of(prompts: Sequence[PromptImages], first: str, second: str) -> list[Task]:
    """Return the pairs of two generators, prompt by prompt."""
    return [
        Task("", prompt.prompt, prompt.text, (TaskImage(first, a), TaskImage(second, b)))
        for prompt in prompts
        for a, b in zip(prompt.images.get(first, ()), prompt.images.get(second, ()), strict=False)
    ]


def _rotate(entries: Sequence[T], start: int) -> list[T]:
    start %= len(entries) or 1
    return [*entries[start:], *entries[:start]]


def _take_in_turn(columns: Sequence[Sequence[T]], count: int | None) -> list[list[T]]:
    """Return the beginning of each column, as long as the others' until one ends."""
    turns = zip_longest(*(range(len(column)) for column in columns))
    order = [(k, n) for turn in turns for k, n in enumerate(turn) if n is not None]
    picks: list[list[T]] = [[] for _ in columns]
    for k, n in order[:count]:
        picks[k].append(columns[k][n])
    return picks


def _chosen(tasks: Sequence[Task], attention: float, rng: random.Random) -> list[Task]:
    """Return random tasks of which to make attention checks."""
    return rng.sample(list(tasks), max(1, round(attention * len(tasks)))) if attention else []


def in_random_order(tasks: Sequence[Task], rng: random.Random) -> list[Task]:
    """Return tasks in random order with distinct random ids.

    Args:
        tasks: tasks, whose ids are replaced.
        rng: decides both.

    >>> task = Task("", "0", "a cat", (TaskImage("sdxl", "sdxl/0.png"),))
    >>> len({task.id for task in in_random_order([task] * 3, random.Random(0))})
    3
    """
    ids: dict[str, None] = {}
    while len(ids) < len(tasks):
        ids[f"{rng.getrandbits(ID_BITS):0{ID_BITS // 4}x}"] = None
    shuffled = rng.sample(list(tasks), len(tasks))
    return [replace(task, id=task_id) for task, task_id in zip(shuffled, ids, strict=True)]
