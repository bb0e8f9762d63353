"""Models that turn all positions otherwise once a row is long: no row may know of longer ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.models.plain_vlm import first_token_of_yes, of_images
from helpers.models.tiny_vlm import TEXT, TINY, save_tiny, write
from helpers.toy import draw_image
from transformers import AutoConfig, AutoProcessor

import t2v_eval
from t2v_eval.backends.common.transformers_internals import max_stable_length
from t2v_eval.inputs.media import Video, open_media

SWITCH = 80  # tokens, between those of an image with a short text and with a long one
YARN = {"rope_theta": 10000.0, "factor": 7.5, "original_max_position_embeddings": SWITCH}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
# The language model, the rotary embeddings, how many positions it has, and where they change.
KINDS = {
    "longrope": ("phi3", YARN | LONG, 600, SWITCH),
    "dynamic": ("qwen2", {**YARN, "rope_type": "dynamic"}, SWITCH, SWITCH),
    "yarn": ("qwen2", {**YARN, "rope_type": "yarn"}, 600, float("inf")),
}
TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 3, "two dogs", ""]
TEXTS += ["the tall lighthouse stands next to the calm river " * 2]


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    result = save_tiny(tmp_path_factory, TINY["internvl"])
    config, processor = (auto.from_pretrained(result) for auto in (AutoConfig, AutoProcessor))
    language, turns, upper, _ = KINDS[kind]
    words = {**TEXT, "vocab_size": config.text_config.vocab_size, "rope_parameters": dict(turns)}
    words |= {"max_position_embeddings": upper, "pad_token_id": 0, "eos_token_id": 0}
    words |= {"original_max_position_embeddings": SWITCH} if language == "phi3" else {}
    config.text_config = AutoConfig.for_model(language, **words)
    write(result, config, processor)
    return result


@pytest.fixture(scope="module")
def expected(folder):
    """Of each pair, by a model that has read nothing before."""
    score = first_token_of_yes(folder, anew=True)
    return [[score(of_images([image]), text) for text in TEXTS] for image in images()]


def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30), (50, 50)])]


def load(folder, **options):
    return t2v_eval.load(
        f"hf-vlm:{folder}", device="cpu", rule="first-token", context=600, **options
    )


@pytest.mark.parametrize("share", [True, "packed", "repeated", "vision", False])
def test_long_and_short_rows_are_read_as_by_themselves(folder, expected, share):
    scorer = load(folder, share=share)
    scorer.room = 10**6
    for order in (slice(None), slice(None, None, -1)):  # whatever was read before
        scores = scorer(images()[order], TEXTS[order])
        np.testing.assert_allclose(scores, np.array(expected)[order, order], rtol=1e-4, atol=1e-9)
    pairs = scorer.score_pairs(images(), TEXTS[:3])
    np.testing.assert_allclose(pairs, np.array(expected)[:, :3].diagonal(), rtol=1e-4, atol=1e-9)


def test_the_start_is_shared_where_all_texts_are_short(kind, folder, expected):
    scorer = load(folder)
    assert max_stable_length(scorer.network.base_model) == KINDS[kind][3]
    short = [0, 2, 3]
    scores = scorer(images(), [TEXTS[n] for n in short])
    np.testing.assert_allclose(scores, np.array(expected)[:, short], rtol=1e-4, atol=1e-9)
    for texts, shared in (([TEXTS[n] for n in short], True), (TEXTS, kind == "yarn")):
        with torch.inference_mode():
            states = scorer.encode_images([scorer.prepare(open_media(image)) for image in images()])
            reading = scorer.prefill([scorer.build_prompt(state, texts) for state in states])
        assert bool(reading.prefixes) == shared


def test_videos_beside_images(folder):
    media = [Video.of([draw_image(n, (40, 40)) for n in range(14)], fps=2.0), *images()]
    apart = load(folder, share=False)(media, TEXTS)
    scorer = load(folder)
    scorer.room = 10**6
    np.testing.assert_allclose(scorer(media, TEXTS), apart, rtol=1e-4, atol=1e-9)
