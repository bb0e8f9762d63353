"""What the models of CLIP's family are given, against what the originals give theirs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.models.clip_goldens import (
    FOLDER,
    arch,
    cases,
    exact_pixels,
    hf_clip_folder,
    long_clip_file,
    open_clip_file,
    openai_archive,
)

import t2v_eval
from t2v_eval.inputs.media import decode, open_media

TOKENS = json.loads((FOLDER / "tokenization.json").read_text("utf-8"))
PIXELS = cases("preprocessing")


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Scorers by name, each on its own small weights."""
    at = tmp_path_factory.mktemp("clip")
    result = {"open_clip": open_clip_file(at), "longclip-l": long_clip_file(at)}
    result |= {"clip-logits": openai_archive(at), "hf-clip": hf_clip_folder(at / "hub")}
    other = {"clipscore": "open_clip", "hpsv2.1": "open_clip"}

    def load(name):
        file = result[other.get(name, name)]
        custom = {"arch": arch("tiny-ViT-H")} if file == result["open_clip"] else {}
        return t2v_eval.load(name, checkpoint=file, device="cpu", image_mode="original", **custom)

    return load


def read(scorer, text):
    filled = scorer.template.fill(text)[0]
    if scorer.name == "hf-clip":
        return scorer.tokenizer(filled, truncation=True, max_length=scorer.context).input_ids
    ids = scorer.tokenizer([filled])[0].tolist()
    return ids[: max(n for n, token in enumerate(ids) if token) + 1]


@pytest.mark.parametrize(
    "name, original",
    [
        ("clip-logits", "openai clip.tokenize(truncate=True), 0-padded"),
        ("open_clip", "open_clip 3.3.0 SimpleTokenizer"),
        ("hpsv2.1", "hpsv2 1.2.0 tokenize"),
        ("clipscore", "jmhessel ('A photo depicts ' prefix)"),
        ("longclip-l", "longclip.tokenize(truncate=True)"),
        ("hf-clip", "HF 5.23.0 CLIPTokenizer(truncation,max_length=77)"),
    ],
)
def test_texts_become_the_tokens_of_the_original(name, original, load):
    scorer = load(name)
    compared = 0
    for text, expected in zip(TOKENS["texts"], TOKENS["ids"][original], strict=True):
        # LongCLIP's sample spells the end token as plain text; its golden scores, which ours equal,
        # read it as the end token, as the tokenizer does that its authors took from OpenAI.
        if name == "longclip-l" and "<|endoftext|>" in text:
            assert read(scorer, text).count(49407) == 2
            continue
        assert read(scorer, text) == expected, text
        compared += 1
    assert compared >= 12


# Original -> the scorer that prepares images as it does, and the images that it deliberately
# prepares otherwise.
PREPARED = {
    "openai/jmhessel/ImageReward/LongCLIP 224": ("clipscore", []),
    # As t2v_metrics does it, an image becomes RGB before it is resized.
    "open_clip 3.3.0 224": (
        "open_clip",
        ["bilevel.png", "la.png", "palette.png", "palette_trns.png", "rgba.png"],
    ),
    # The original's network fails on four channels, and on an image that is not padded.
    "hpsv2 1.2.0 224": ("hpsv2.1", ["long224.png", "rgba.png"]),
    "HF 4.57.6 CLIPImageProcessor (slow, PIL)": ("hf-clip", []),
    # transformers 5 puts what is transparent on white; what the models saw drops the alpha.
    "HF 5.23.0 CLIPImageProcessorPil": ("hf-clip", ["la.png", "palette_trns.png", "rgba.png"]),
}


@pytest.mark.parametrize("original", PREPARED)
@exact_pixels
def test_images_become_the_pixels_of_the_original(original, load):
    name, otherwise = PREPARED[original]
    scorer, case, different = load(name), PIXELS[original], []
    for image, places, expected in zip(case["images"], case["yx"], case["scores"], strict=True):
        pixels = scorer.preprocess(decode(open_media(FOLDER / image), "original"))
        result = np.array([pixels[:, y, x].tolist() for y, x in places])
        if result.shape != np.shape(expected) or np.abs(result - expected).max() > 1e-5:
            different.append(image.removeprefix("images/"))
    assert different == otherwise
