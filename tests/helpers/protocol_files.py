"""Folders of two generators, a reference and a plan, drawn for tests of the protocol."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
from PIL import Image

from t2v_eval.benchmarks.forms.drawn_scenes import items


def write_generators(
    folder: Path,
    prompts: int = 24,
    seeds: int = 3,
    faults: tuple[float, float] = (0.1, 0.5),
    seed: int = 0,
    reference: int = 40,
) -> Path:
    """Write prompts.csv, new/seed_N, old/seed_N and reference/; return the folder.

    An image shows its prompt but for a share of faults, where it shows one with exchanged words.
    """
    rng = random.Random(seed)
    scenes = items(prompts, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "prompts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "prompt", "tags"])
        writer.writerows([f"{n:05}", d.texts[0], d.skill] for n, d in enumerate(scenes))
    for name, share in zip(("new", "old"), faults, strict=True):
        for k in range(seeds):
            place = folder / name / f"seed_{k}"
            place.mkdir(parents=True, exist_ok=True)
            for n, scene in enumerate(scenes):
                image = scene.images[rng.random() < share]
                _noisy(image, rng).save(place / f"{n:05}.png")
    place = folder / "reference"
    place.mkdir(exist_ok=True)
    for n, scene in enumerate(items(reference, seed + 1000)):
        scene.images[0].save(place / f"{n:05}.png")
    return folder


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return an image with a little noise, so that seeds differ."""
    pixels = np.asarray(image, np.int16)
    noise = np.frombuffer(rng.randbytes(pixels.size), np.uint8).reshape(pixels.shape) % 7
    return Image.fromarray(np.clip(pixels + noise - 3, 0, 255).astype(np.uint8))


PLAN = """
prompts = "prompts.csv"
resamples = 100

[model]
name = "new"
images = [{new}]

[baseline]
name = "old"
images = [{old}]

[sizes]
prompts = 24

[sample_quality]
reference = "reference"
distances = [{{metrics = ["kid", "precision"]}}]

[prompt_adherence]
scorers = ["tiny-clip", "tiny-negclip", "tiny-clip-flant5"]

[preference]
scorers = ["tiny-clip"]

[probes]
skip = true

[[criteria]]
name = "adherence"
pillar = "prompt_adherence"
kind = "better"

[[criteria]]
name = "no loss of adherence"
pillar = "prompt_adherence"
kind = "not_worse"
figure = "tiny-clip"
margin = 0.2
unit = "sd"
gate = true

[[criteria]]
name = "kid"
pillar = "sample_quality"
kind = "not_worse"
figure = "kid (tiny-clip)"
margin = 0.05
gate = true
"""


def write_plan(folder: Path, seeds: int = 3, text: str = PLAN) -> Path:
    """Write a plan for what `write_generators` wrote; return its file."""
    listed = {
        name: ", ".join(f'"{name}/seed_{k}"' for k in range(seeds)) for name in ("new", "old")
    }
    file = folder / "plan.toml"
    file.write_text(text.format(**listed))
    return file
