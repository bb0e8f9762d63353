"""Images by a random pipeline of diffusers: reproducible, in any batch, without blank ones."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from helpers.models.tiny_pipeline import save_tiny_pipeline
from PIL import Image

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import CheckpointError, GenerationError, InputError, OutputError
from t2v_eval.generators.diffusers_pipeline import DiffusersGenerator
from t2v_eval.generators.plan import seed_of

PROMPTS = {"00000": "a cat", "00001": "a dog", "00002": "a red cube"}
SETTINGS = {"steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return str(save_tiny_pipeline(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    """The images of two per prompt, made one by one."""
    path = tmp_path_factory.mktemp("images")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        t2v_eval.generate(pipeline, PROMPTS, path, per_prompt=2, **SETTINGS)
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def pixels(folder):
    images = (Image.open(path) for path in sorted(folder.glob("*.png")))
    return np.array([np.asarray(image) for image in images], float)


def test_an_image_is_what_the_pipeline_makes_with_its_seed(pipeline, folder):
    import diffusers

    reference = diffusers.DiffusionPipeline.from_pretrained(pipeline)
    seed = seed_of(0, "a dog", 1)
    image = reference(
        "a dog", num_inference_steps=2, generator=torch.Generator().manual_seed(seed)
    ).images[0]
    np.testing.assert_array_equal(np.asarray(image), pixels(folder)[3])
    assert len(contents(folder)) == len(set(contents(folder).values())) == 6


def test_an_interrupted_run_resumes_to_the_same_bytes(pipeline, folder, tmp_path):
    def interrupt(so_far):
        if so_far.made == 3:
            raise KeyboardInterrupt

    options = {"per_prompt": 2, **SETTINGS}
    with pytest.raises(KeyboardInterrupt):
        t2v_eval.generate(pipeline, PROMPTS, tmp_path, progress=interrupt, **options)
    assert len(contents(tmp_path)) == 3
    assert t2v_eval.generate(pipeline, PROMPTS, tmp_path, **options).made == 3
    assert contents(tmp_path) == contents(folder)


def test_another_batch_size_gives_the_same_images(pipeline, folder, tmp_path):
    t2v_eval.generate(pipeline, PROMPTS, tmp_path, per_prompt=2, batch_size=4, **SETTINGS)
    assert abs(pixels(tmp_path) - pixels(folder)).max() <= 1


def test_the_recipe_says_how_images_were_made(pipeline, folder, tmp_path):
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["pipeline"] == pipeline and recipe["revision"]
    assert (recipe["steps"], recipe["guidance_scale"], recipe["dtype"]) == (2, None, "float32")
    assert set(recipe["packages"]) == {"diffusers", "torch", "transformers"}
    with pytest.raises(OutputError, match="steps was 2 and is 3"):
        t2v_eval.generate(pipeline, PROMPTS, folder, per_prompt=2, steps=3, device="cpu")


def test_options_of_the_pipeline_count_for_every_prompt_of_a_batch(pipeline, folder, tmp_path):
    options = {"negative_prompt": "a tree", "guidance_scale": 9.0, "batch_size": 3}
    t2v_eval.generate(pipeline, PROMPTS, tmp_path, **SETTINGS, **options)
    assert (abs(pixels(tmp_path) - pixels(folder)[::2]).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "`steps=0`"),
        ({"guidance_scale": "high"}, "`guidance_scale='high'`"),
        ({"height": 2.5}, "`height=2.5`"),
        ({"batch_size": 0}, "`batch_size=0`"),
        ({"num_inference_steps": 3}, "it is called `steps=` here"),
        ({"negative_promt": "x"}, "did you mean `negative_prompt=`"),
        ({"eta": float("nan")}, "`eta=nan`"),
        ({"revision": "main"}, "is a folder, which has none"),
        ({"device": "nowhere"}, "nowhere"),
    ],
)
def test_options_are_checked_before_weights_are_loaded(options, message, pipeline, tmp_path):
    with pytest.raises(InputError, match=message):
        t2v_eval.generate(pipeline, PROMPTS, tmp_path / "out", **options)


def test_a_folder_without_a_pipeline_or_of_another_library_is_named(pipeline, tmp_path):
    with pytest.raises(CheckpointError, match="holds no model_index.json"):
        DiffusersGenerator(str(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": ["mine", "Own"]}')
    with pytest.raises(CheckpointError, match="code of its own is not run"):
        DiffusersGenerator(str(tmp_path))


class Faulty:
    """A pipeline that misbehaves.

    Args:
        behave: returns the images and flags of a batch of prompts.
    """

    def __init__(self, behave):
        self.behave, self.batches = behave, []

    def __call__(self, prompt, generator, output_type, **settings):
        self.batches.append(list(prompt))
        images, flags = self.behave(prompt)
        return type("Result", (), {"images": images, "nsfw_content_detected": flags})


def faulty(pipeline, behave, **options):
    generator = DiffusersGenerator(pipeline, device="cpu", **options)
    generator._pipeline = Faulty(behave)
    return generator


GREY = np.full((4, 4, 3), 0.5)


def test_a_prompt_that_fails_costs_its_own_image_alone(pipeline, tmp_path):
    def behave(prompts):
        if "a dog" in prompts:
            raise ValueError("no such token")
        return [GREY] * len(prompts), None

    result = t2v_eval.generate(
        faulty(pipeline, behave, batch_size=3), PROMPTS, tmp_path, on_error="skip"
    )
    assert result.failures == {"00001_0.png": "ValueError: no such token"}
    assert sorted(contents(tmp_path)) == ["00000_0.png", "00002_0.png"]


def test_no_blank_image_of_a_safety_checker_or_of_nan(pipeline, tmp_path):
    def behave(prompts):
        image = np.full((4, 4, 3), np.nan) if prompts == ["a red cube"] else np.zeros((4, 4, 3))
        return [image], [prompts == ["a dog"]]

    result = t2v_eval.generate(faulty(pipeline, behave), PROMPTS, tmp_path, on_error="skip")
    assert sorted(contents(tmp_path)) == ["00000_0.png"]
    withheld, not_finite = result.failures.values()
    assert "safety checker withheld" in withheld and "not finite" in not_finite


def test_a_batch_is_halved_when_memory_runs_out(pipeline, tmp_path):
    def behave(prompts):
        if len(prompts) > 1:
            raise torch.OutOfMemoryError
        return [GREY], None

    generator = faulty(pipeline, behave, batch_size=3)
    assert t2v_eval.generate(generator, PROMPTS, tmp_path).made == 3
    assert [len(batch) for batch in generator._pipeline.batches] == [3, 1, 1, 1]

    def never(prompts):
        raise torch.OutOfMemoryError

    with pytest.raises(GenerationError, match="not even one image fits"):
        t2v_eval.generate(faulty(pipeline, never), {"0": "x"}, tmp_path / "never")


def test_from_prompts_to_a_report_in_two_commands(pipeline, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na red cube\n")
    generate = ["generate", "--pipeline", pipeline, "--benchmark", "prompts.txt", "--out", "tiny"]
    generate += ["--steps", "1", "--device", "cpu", "--option", "negative_prompt=a tree"]
    run(*generate, "--per-prompt", "2", "--dry-run")
    assert capsys.readouterr().out.split()[-6:] == [pipeline, "3", "6", "0", "6", "0"]
    assert not (tmp_path / "tiny").exists()
    run(*generate, "--per-prompt", "2")
    out, err = capsys.readouterr()
    assert out.strip() == "6 of 6 images are in tiny"
    assert "%" not in err
    run(*generate, "--per-prompt", "2", "--json")
    again = json.loads(capsys.readouterr().out)
    assert (again["made"], again["reused"], again["failures"]) == (0, 6, {})
    assert run(*generate) == 2
    assert "per_prompt was 2 and is 1" in capsys.readouterr().err
    assert run(*generate[:-2], "--option", "negativ=x") == 2
    assert "negative_prompt" in capsys.readouterr().err
    evaluate = ["eval", "--model", "tiny-clip-flant5", "--benchmark", "prompts.txt", "--no-store"]
    run(*evaluate, "--images", "tiny", "--out", "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["runs"][0]["counts"]["cells"] == 6
    recipe = report["runs"][0]["recipe"]["tiny"]
    assert (recipe["steps"], recipe["options"]) == (1, {"negative_prompt": "a tree"})


def run(*arguments):
    """Run a command; its exit code."""
    try:
        app(list(arguments), prog_name="t2v-eval")
    except SystemExit as stop:
        return stop.code or 0
    return 0
