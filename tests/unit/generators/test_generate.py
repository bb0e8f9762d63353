"""Making the images of prompts: files, seeds, recipes, resuming and failures."""

from __future__ import annotations

import csv
import json

import pytest
from helpers.benchmarks.small_files import FIXTURES
from PIL import Image

import t2v_eval
from t2v_eval.errors import GenerationError, InputError, OutputError, UnsupportedError
from t2v_eval.evaluation.options import BenchmarkOptions, open_benchmark
from t2v_eval.generators.plan import plan_images


class Toy(t2v_eval.Generator):
    """Draws a colour that follows from the seed; fails on prompts with the word "never".

    Args:
        most: images after which it raises KeyboardInterrupt.
        colour: part of its recipe.
    """

    def __init__(self, most=10**9, colour="any"):
        self.most, self.colour, self.prompts = most, colour, []

    def facts(self):
        return {"pipeline": "toy", "colour": self.colour}

    def generate(self, prompts, seeds):
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            if len(self.prompts) >= self.most:
                raise KeyboardInterrupt
            self.prompts.append(prompt)
            if "never" in prompt:
                yield t2v_eval.Generated(number, error=GenerationError("it is never drawn"))
            else:
                colour = (seed % 256, seed // 256 % 256, seed // 65536 % 256)
                yield t2v_eval.Generated(number, Image.new("RGB", (48, 48), colour))


PROMPTS = {"00000": "a cat", "00001": "a dog", "00002": "a red cube"}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def listed(folder):
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def test_every_image_has_a_seed_of_its_own_that_no_other_prompt_changes():
    images = plan_images(PROMPTS, per_prompt=4)
    assert len({image.seed for image in images}) == 12
    assert all(0 <= image.seed < 2**31 for image in images)
    alone = plan_images({"00000": "a red cube"}, per_prompt=2)
    assert [image.seed for image in alone] == [image.seed for image in images[8:10]]
    other = plan_images(PROMPTS, per_prompt=4, seed=1)
    assert not {image.seed for image in other} & {image.seed for image in images}
    twice = plan_images({"0": "a cat", "1": "a cat"})
    assert twice[0].seed != twice[1].seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_prompt": 0}, "`per_prompt=0`"),
        ({"per_prompt": True}, "`per_prompt=True`"),
        ({"seed": -1}, "`seed=-1`"),
        ({"on_error": "error"}, "`on_error='error'`"),
        ({"subset": "x"}, "pass fewer prompts"),
        ({"steps": 3}, "an opened generator takes no options"),
    ],
)
def test_impossible_arguments_are_named(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        t2v_eval.generate(Toy(), PROMPTS, tmp_path / "out", **options)


def test_an_interrupted_run_goes_on_and_ends_with_the_same_files(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    t2v_eval.generate(Toy(), PROMPTS, whole, per_prompt=2)
    with pytest.raises(KeyboardInterrupt):
        t2v_eval.generate(Toy(most=3), PROMPTS, parts, per_prompt=2)
    assert len(contents(parts)) == 3
    generator = Toy()
    result = t2v_eval.generate(generator, PROMPTS, parts, per_prompt=2)
    assert (result.made, result.reused, result.present, result.images) == (3, 3, 6, 6)
    assert generator.prompts == ["a dog", "a red cube", "a red cube"]
    assert contents(parts) == contents(whole)
    assert listed(parts) == listed(whole)
    again = Toy()
    assert t2v_eval.generate(again, PROMPTS, parts, per_prompt=2).reused == 6
    assert again.prompts == []


def test_the_list_of_a_killed_run_may_end_within_a_line(tmp_path):
    t2v_eval.generate(Toy(), PROMPTS, tmp_path)
    path = tmp_path / "images.jsonl"
    path.write_text(path.read_text()[:-20])
    (tmp_path / "00001_0.png").unlink()
    t2v_eval.generate(Toy(), PROMPTS, tmp_path)
    assert [row["prompt"] for row in listed(tmp_path)] == [*PROMPTS.values()]


@pytest.mark.parametrize(
    ("generator", "options", "difference"),
    [
        (Toy(colour="red"), {}, 'colour was "any" and is "red"'),
        (Toy(), {"seed": 3}, "seed was 0 and is 3"),
        (Toy(), {"per_prompt": 2}, "per_prompt was 1 and is 2"),
    ],
)
def test_another_recipe_is_refused_with_what_differs(generator, options, difference, tmp_path):
    t2v_eval.generate(Toy(), PROMPTS, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="another recipe") as raised:
        t2v_eval.generate(generator, PROMPTS, tmp_path, **options)
    assert difference in str(raised.value)
    assert contents(tmp_path) == before


def test_other_prompts_are_another_recipe(tmp_path):
    t2v_eval.generate(Toy(), PROMPTS, tmp_path)
    with pytest.raises(OutputError, match="the prompts are others"):
        t2v_eval.generate(Toy(), {**PROMPTS, "00003": "a tree"}, tmp_path)


def test_a_recipe_without_images_is_replaced(tmp_path):
    t2v_eval.generate(Toy(), {"0": "never"}, tmp_path, on_error="skip")
    assert t2v_eval.generate(Toy(), PROMPTS, tmp_path).made == 3
    assert json.loads((tmp_path / "recipe.json").read_text())["colour"] == "any"
    assert [row["prompt"] for row in listed(tmp_path)] == [*PROMPTS.values()]


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_recipe_is_an_error_that_names_it(content, tmp_path):
    t2v_eval.generate(Toy(), PROMPTS, tmp_path)
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(OutputError, match="recipe.json"):
        t2v_eval.generate(Toy(), PROMPTS, tmp_path)


def test_images_of_unknown_origin_are_not_added_to(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "00000_0.png")
    with pytest.raises(OutputError, match="without a recipe.json"):
        t2v_eval.generate(Toy(), PROMPTS, tmp_path)


def test_a_failure_is_raised_or_counted_and_never_an_image(tmp_path):
    prompts = {**PROMPTS, "00001": "never a dog"}
    with pytest.raises(GenerationError, match="00001_0.png, 'never a dog': it is never drawn"):
        t2v_eval.generate(Toy(), prompts, tmp_path)
    assert sorted(contents(tmp_path)) == ["00000_0.png"]
    result = t2v_eval.generate(Toy(), prompts, tmp_path, on_error="skip")
    assert result.failures == {"00001_0.png": "it is never drawn"}
    assert sorted(contents(tmp_path)) == ["00000_0.png", "00002_0.png"]
    assert [row.get("error") for row in listed(tmp_path)] == [None, "it is never drawn", None]
    retried = Toy()
    t2v_eval.generate(retried, prompts, tmp_path, on_error="skip")
    assert retried.prompts == ["never a dog"]


def own_prompts(tmp_path):
    path = tmp_path / "prompts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "tags"])
        writer.writerows([["a cat", "animals"], ["3", "numbers"], ["a cat", ""], ["ein Bär", ""]])
    return path


@pytest.mark.parametrize("ids", [None, ["7", "3", "1", "0"], ["x/1", "x/2", "ü", "12"]])
def test_images_are_found_by_the_benchmark_they_were_made_of(ids, tmp_path):
    path = own_prompts(tmp_path)
    if ids:
        rows = path.read_text("utf-8").splitlines()
        named = [f"{row},{name}" for row, name in zip(rows, ["id", *ids], strict=True)]
        path.write_text("\n".join(named), "utf-8")
    t2v_eval.generate(Toy(), path, tmp_path / "toy", per_prompt=3)
    benchmark = open_benchmark(str(path), images=[tmp_path / "toy"])
    items = benchmark.selected()
    assert [item.texts[0] for item in items] == ["a cat", "3", "a cat", "ein Bär"]
    seeds = {row["file"]: row["prompt"] for row in listed(tmp_path / "toy")}
    files = [image.rpartition("/")[2] for item in items for image in item.images]
    assert sorted(files) == sorted(seeds) and len(files) == len(set(files)) == 12
    for item in items:
        assert [seeds[image.rpartition("/")[2]] for image in item.images] == [*item.texts] * 3


def test_a_part_of_the_prompts_is_the_part_that_is_evaluated(tmp_path):
    path = own_prompts(tmp_path)
    t2v_eval.generate(Toy(), path, tmp_path / "tagged", subset="numbers")
    assert [row["prompt"] for row in listed(tmp_path / "tagged")] == ["3"]
    t2v_eval.generate(Toy(), path, tmp_path / "some", limit=2, seed=5)
    assert len(contents(tmp_path / "some")) == 2
    report = t2v_eval.compare(
        "tiny-clip-flant5", str(path), images=[tmp_path / "some"], limit=2, seed=5
    )
    assert len(report.runs[0].items) == 2


def test_a_benchmark_with_images_of_its_own_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="scenes has images of its own"):
        t2v_eval.generate(Toy(), "scenes", tmp_path)


def test_a_scorer_makes_no_images(tmp_path):
    with pytest.raises(InputError, match="is a scorer, which makes no images"):
        t2v_eval.generate("tiny-clip-flant5", PROMPTS, tmp_path)


@pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
@pytest.mark.parametrize(
    "name", ["partiprompts", "geneval", "t2i-compbench", "tifa-v1", "dsg-1k", "genai-bench-prompts"]
)
def test_images_of_published_sets_are_found(name, tmp_path):
    root = FIXTURES / "prompt_sets"
    if name == "genai-bench-prompts":
        root = tmp_path
        texts = {"00003": {"prompt": "a cat"}, "00009": {"prompt": "9"}}
        (root / "genai_image.json").write_text(json.dumps(texts))
        (root / "genai_skills.json").write_text(json.dumps({"basic": [3, 9]}))
    options = BenchmarkOptions(root=root)
    images = t2v_eval.generate(
        Toy(), name, tmp_path / "toy", per_prompt=2, benchmark_options=options
    )
    items = open_benchmark(name, root=root, images=[tmp_path / "toy"]).selected()
    assert images.images == sum(len(item.images) for item in items) == 2 * len(items)
    prompts = {row["file"]: row["prompt"] for row in listed(tmp_path / "toy")}
    for item in items:
        assert {prompts[image.rpartition("/")[2]] for image in item.images} == {*item.texts}
