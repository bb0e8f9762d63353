"""Which pairs and images people judge: all or a balanced part, random sides, attention checks."""

from collections import Counter
from itertools import combinations

import pytest
from helpers.generated import GENERATORS, write_images, write_prompts

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.evaluation.options import BenchmarkOptions, open_benchmark
from t2v_eval.registry import benchmarks
from t2v_eval.votes.tasks import PromptImages, images_of_prompts, plan_pairs, plan_ratings


def prompts_of(count, generators=GENERATORS, each=1):
    return [
        PromptImages(
            str(n),
            f"prompt {n}",
            {g: [f"{g}/{n}_{k}.png" for k in range(each)] for g in generators},
        )
        for n in range(count)
    ]


def named(task):
    return tuple(image.generator for image in task.images)


def test_every_pair_of_images_of_a_prompt_is_judged_once():
    tasks = plan_pairs(prompts_of(7, each=2), attention=0)
    expected = {
        (f"prompt {n}", frozenset((f"{a}/{n}_{k}.png", f"{b}/{n}_{k}.png")))
        for n in range(7)
        for k in range(2)
        for a, b in combinations(GENERATORS, 2)
    }
    assert len(tasks) == len(expected) == 42
    assert {(t.text, frozenset(image.path for image in t.images)) for t in tasks} == expected
    assert len({t.id for t in tasks}) == 42


@pytest.mark.parametrize("pairs", [1, 2, 10, 31, 60])
def test_pairs_of_generators_sides_and_prompts_are_balanced(pairs):
    tasks = plan_pairs(prompts_of(20), pairs, attention=0)
    counts = Counter(frozenset(named(task)) for task in tasks)
    assert len(tasks) == pairs
    assert max(counts.values()) - min(counts.values() if len(counts) == 3 else [0]) <= 1
    for a, b in combinations(GENERATORS, 2):
        on_the_left = Counter(named(task)[0] for task in tasks if set(named(task)) == {a, b})
        assert abs(on_the_left[a] - on_the_left[b]) <= 1
    by_prompt = Counter(task.prompt for task in tasks)
    assert max(by_prompt.values()) - (pairs // 20) <= 1


def test_a_seed_gives_the_same_tasks_and_another_seed_others():
    prompts = prompts_of(12)
    assert plan_pairs(prompts, seed=3) == plan_pairs(prompts, seed=3)
    others = plan_pairs(prompts, seed=4)
    assert plan_pairs(prompts, seed=3) != others
    assert {task.id for task in plan_pairs(prompts, seed=3)}.isdisjoint(t.id for t in others)


def test_sides_and_order_tell_nothing_about_generators():
    counts = Counter()
    for seed in range(200):
        counts.update(named(task)[0] for task in plan_pairs(prompts_of(3, "ab"), 1, 0, seed))
    assert 70 < counts["a"] < 130  # of 200 fair tosses, within four standard deviations
    first = Counter(
        plan_ratings(prompts_of(3, "ab"), seed=s)[0].images[0].generator for s in range(200)
    )
    assert 70 < first["a"] < 130


@pytest.mark.parametrize(("share", "checks"), [(0, 0), (0.001, 1), (0.05, 3), (0.5, 30)])
def test_an_attention_pair_shows_an_image_beside_itself_degraded(share, checks):
    tasks = plan_pairs(prompts_of(20), attention=share)
    attention = [task for task in tasks if task.is_attention]
    assert (len(attention), len(tasks)) == (checks, 60 + checks)
    for task in attention:
        assert task.images[0].path == task.images[1].path
        assert sorted(image.degraded for image in task.images) == [False, True]
    if checks > 20:
        assert {task.images[0].degraded for task in attention} == {False, True}


def test_ratings_show_every_image_and_some_degraded():
    tasks = plan_ratings(prompts_of(10, each=2), attention=0.1)
    intact = [task.images[0].path for task in tasks if not task.is_attention]
    assert sorted(intact) == sorted(
        f"{g}/{n}_{k}.png" for g in GENERATORS for n in range(10) for k in (0, 1)
    )
    assert sum(task.is_attention for task in tasks) == 6
    few = plan_ratings(prompts_of(10), limit=9, attention=0)
    assert set(Counter(named(task)[0] for task in few).values()) == {3}


def test_prompts_without_an_image_of_a_generator_give_the_pairs_that_there_are():
    prompts = [
        PromptImages("0", "x", {"a": ["a0"], "b": ["b0"]}),
        PromptImages("1", "y", {"b": ["b1"]}),
        PromptImages("2", "z", {"a": ["a2", "a3"], "b": ["b2"]}),
    ]
    assert sorted(t.prompt for t in plan_pairs(prompts, attention=0)) == ["0", "2"]
    assert len(plan_ratings(prompts, attention=0)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": 0}, r"`pairs=0`: pass a whole number of at least 1"),
        ({"pairs": 2.0}, r"`pairs=2.0`"),
        ({"seed": -1}, r"`seed=-1`: pass a whole number of at least 0"),
        ({"attention": 0.6}, r"`attention=0.6`: pass a share from 0 to 0.5"),
        ({"attention": float("nan")}, r"`attention=nan`"),
    ],
)
def test_impossible_numbers_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        plan_pairs(prompts_of(3), **options)


def test_one_generator_has_no_pairs_and_no_image_no_ratings():
    with pytest.raises(InputError, match="two generators: pass the folders of at least two as `im"):
        plan_pairs(prompts_of(3, ("a",)))
    with pytest.raises(InputError, match="no prompt has an image"):
        plan_ratings([])


def test_images_are_read_as_for_an_evaluation(tmp_path):
    folders = write_images(tmp_path, GENERATORS[:2], prompts=3, each=2)
    file = write_prompts(tmp_path, ["a cat", "a dog", "a cow"])
    options = BenchmarkOptions(images=folders)
    prompts = images_of_prompts(options.open(benchmarks.card(str(file))))
    assert [prompt.text for prompt in prompts] == ["a cat", "a dog", "a cow"]
    assert prompts[1].images == {
        folder.name: [str(folder / f"00001_{k}.jpg") for k in (0, 1)] for folder in folders
    }
    with pytest.raises(
        UnsupportedError, match="scenes has images of its own; pass a set of prompts"
    ):
        images_of_prompts(open_benchmark("scenes", n=3))
