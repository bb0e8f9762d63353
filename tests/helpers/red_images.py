"""Folders of images whose red is their score, and a report of them, for tests of generators."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import t2v_eval
from t2v_eval.report.report import Report, compare


def redness(images, texts):
    """Score the red of the first pixel, 0 to 255."""
    return [[float(image.getpixel((0, 0))[0])] * len(texts) for image in images]


def write_folders(root: Path, reds: Mapping[str, Sequence[float]]) -> list[Path]:
    """Write an image of each prompt and generator, NNNNN.png, and the prompts beside them."""
    root.mkdir(parents=True, exist_ok=True)
    number = len(next(iter(reds.values())))
    with (root / "prompts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("id", "prompt"), *((f"p{n}", f"a thing {n}") for n in range(number))])
    for name, values in reds.items():
        (root / name).mkdir()
        for n, red in enumerate(values):
            Image.new("RGB", (4, 4), (int(red), n % 256, 0)).save(root / name / f"{n:05}.png")
    return [root / name for name in reds]


def report_of(root: Path, reds: Mapping[str, Sequence[float]], **options: Any) -> Report:
    """Return the report of the folders by the scorer `red`."""
    folders = write_folders(root, reds)
    scorer = t2v_eval.from_function(redness, name="red", version="1")
    options = {"resamples": 50, "noise_floor": False} | options
    return compare(scorer, str(root / "prompts.csv"), images=folders, **options)
