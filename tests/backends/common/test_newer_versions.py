"""Libraries newer than those that were tested: fast paths test themselves, and give way with a
warning, and scores stay what they are.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import arch, open_clip_file
from helpers.models.tiny_vlm import TINY
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.common import transformers_internals as _transformers
from t2v_eval.backends.common import versions as _versions
from t2v_eval.backends.common.tested_versions import NEWEST_TESTED
from t2v_eval.backends.common.versions import newer_than_tested
from t2v_eval.errors import T2VWarning, UnsupportedError

GOLDENS = Path(__file__).parents[2] / "goldens"
FLANT5 = GOLDENS / "vqa" / "clip_flant5" / "checkpoint"
LOADED = {
    "clip-flant5-xxl": {
        "checkpoint": FLANT5 / "model_safetensors",
        "tokenizer": FLANT5 / "tokenizer",
        "vision_tower": FLANT5 / "openai/clip-vit-tiny-patch14-56",
    },
    "instructblip-flant5-xl": {"checkpoint": GOLDENS / "vqa/instructblip/checkpoint/hf"},
    "blip2-itm": {"checkpoint": GOLDENS / "vqa/blip2/checkpoint/hf"},
    "image-reward": {"checkpoint": GOLDENS / "clip/imagereward/checkpoint"},
    "open_clip": {},
    "qwen2.5-vl-7b": {},
}
TEXTS = ["cat", "two small dogs"]
OPEN_CLIP = "texts read up to their end"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What is made for this module: small models whose files are not beside the tests."""
    folder = tmp_path_factory.mktemp("qwen")
    TINY["qwen2_5_vl"](folder)
    clip = open_clip_file(tmp_path_factory.mktemp("open_clip"))
    custom = {"qwen2.5-vl-7b": {"checkpoint": folder}}
    return {**LOADED, **custom, "open_clip": {"checkpoint": clip, "arch": arch("tiny-ViT-H")}}


@pytest.fixture
def load(files):
    return lambda name, **options: t2v_eval.load(name, device="cpu", **files[name], **options)


@pytest.fixture
def newer(monkeypatch):
    """As if all libraries had been tested in versions older than those that are here."""
    for name in NEWEST_TESTED:
        monkeypatch.setitem(NEWEST_TESTED, name, "0.1")


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30)])]


def raising(*_, **__):
    raise TypeError("forward() got multiple values for argument 'cache'")


def absorb_wrongly(monkeypatch) -> None:
    original = _transformers.AbsorbedCrossAttention.forward

    def forward(self, *args, **options):
        states, bias, weights = original(self, *args, **options)
        return states * 1.5, bias, weights

    monkeypatch.setattr(_transformers.AbsorbedCrossAttention, "forward", forward)


def read_wrongly(monkeypatch) -> None:
    monkeypatch.setattr(
        "t2v_eval.backends.vlm.reading.prefix.position_offsets", lambda network, count: [50] * count
    )


def columns_twice(monkeypatch) -> None:
    monkeypatch.setattr(
        "t2v_eval.backends.blip.cross_attention._Columns.forward",
        lambda self, s: 2 * s[..., self.columns],
    )


def cut_wrongly(monkeypatch) -> None:
    read = "t2v_eval.backends.clip.open_clip_internals.TextTower._encode_up_to_end"
    monkeypatch.setattr(read, lambda self, ids: self.network.encode_text(ids.flip(0)))


# What a newer version may break: a family, what it breaks, and how the warning calls it.
RAISES = {
    "clip-flant5-xxl": (
        "common.transformers_internals.AbsorbedCrossAttention.forward",
        "cross-attention of T5",
    ),
    "instructblip-flant5-xl": (
        "common.transformers_internals.AbsorbedCrossAttention.forward",
        "cross-attention of T5",
    ),
    "blip2-itm": ("blip.cross_attention._Columns.forward", "keys and values of images"),
    "image-reward": ("blip.cross_attention._Columns.forward", "keys and values of images"),
    "open_clip": ("clip.open_clip_internals.TextTower._encode_up_to_end", OPEN_CLIP),
    "qwen2.5-vl-7b": ("vlm.reading.prefix.prefix_cache", "prefix shared, packed"),
}
DIFFERS = {
    "clip-flant5-xxl": absorb_wrongly,
    "instructblip-flant5-xl": columns_twice,
    "blip2-itm": columns_twice,
    "image-reward": columns_twice,
    "open_clip": cut_wrongly,
    "qwen2.5-vl-7b": read_wrongly,
}


def test_versions_are_compared_by_their_release(monkeypatch):
    monkeypatch.setattr(_versions, "_installed", lambda name: installed[name])
    monkeypatch.setitem(NEWEST_TESTED, "transformers", "5.24.0")
    monkeypatch.setitem(NEWEST_TESTED, "torch", "2.14.1")
    installed = {"transformers": "5.24.0", "torch": "2.14.1+cu130"}
    assert newer_than_tested("transformers") == ""
    for version in ("5.24.1", "5.25.0", "5.25.0.dev0", "6.0", "5.100.0"):
        installed["transformers"] = version
        message = newer_than_tested("transformers")
        assert message == f"transformers {version} (tested up to 5.24.0)"
    for version in ("5.23.0", "5.9.7", "4.99"):
        installed["transformers"] = version
        assert newer_than_tested("transformers") == ""
    installed["torch"] = "2.15.0+cpu"
    assert newer_than_tested("transformers") == "torch 2.15.0+cpu (tested up to 2.14.1)"


@pytest.mark.parametrize("name", RAISES)
def test_a_fast_path_that_holds_is_used_without_a_word(name, load, newer):
    tested = load(name)
    assert tested.sharing_mode == load(name).sharing_mode
    if name == "open_clip":
        assert tested.texts.stops_at_end
    elif "blip" in name or name == "image-reward":
        assert tested._keys_and_values._fused is not None


@pytest.mark.parametrize("name", RAISES)
def test_what_raises_gives_way_to_the_plain_path(name, load, images, newer, monkeypatch):
    before = load(name)
    scores, execution = before(images, TEXTS), before.execution
    place, message = RAISES[name]
    monkeypatch.setattr(f"t2v_eval.backends.{place}", raising)
    with pytest.warns(T2VWarning) as caught:
        plain = load(name)
    (item,) = caught
    library = "open_clip_torch" if name == "open_clip" else "transformers"
    assert f"{library} {_versions._installed(library)}" in str(item.message)
    assert message in str(item.message) and "TypeError: forward() got" in str(item.message)
    assert "Scores stay right but take longer" in str(item.message)
    np.testing.assert_allclose(plain(images, TEXTS), scores, rtol=1e-4, atol=1e-6)
    assert plain.id == before.id
    assert ("T5" in message or "prefix" in message) == (
        plain.execution["mode"] != execution["mode"]
    )


@pytest.mark.parametrize("name", DIFFERS)
def test_what_gives_other_numbers_gives_way_to_the_plain_path(
    name, load, images, newer, monkeypatch
):
    scores = load(name)(images, TEXTS)
    DIFFERS[name](monkeypatch)
    with pytest.warns(T2VWarning, match="it gives other numbers") as caught:
        plain = load(name)
    assert len(caught) == 1
    np.testing.assert_allclose(plain(images, TEXTS), scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["clip-flant5-xxl", "blip2-itm", "image-reward"])
def test_parts_that_are_called_otherwise_are_left_alone(name, load, images, newer, monkeypatch):
    scores = load(name)(images, TEXTS)

    def missing(*_):
        raise AttributeError("no attribute 'EncDecAttention'")

    monkeypatch.setattr(_transformers, "t5_cross_attentions", missing)
    for user, find in (("blip.blip2", "qformer"), ("preference.blip_reward", "blip")):
        monkeypatch.setattr(f"t2v_eval.backends.{user}.{find}_cross_attentions", missing)
    with pytest.warns(T2VWarning, match="AttributeError: no attribute") as caught:
        plain = load(name)
    assert len(caught) == 1
    np.testing.assert_allclose(plain(images, TEXTS), scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", RAISES)
def test_tested_versions_cost_nothing(name, load, monkeypatch):
    for library in NEWEST_TESTED:
        monkeypatch.setitem(NEWEST_TESTED, library, "999")

    def probed(*_, **__):
        raise AssertionError("a fast path was tested")

    for place in (
        "flant5.t5._probe_answer",
        "clip.open_clip_internals.TextTower._probe_embeddings",
        "vlm.hf_vlm.HfVlm._choose_sharing_mode",
        "blip.blip2.Blip2ITM._query_image",
        "blip.instructblip.InstructBlipFlanT5._query_image",
        "preference.blip_reward.BlipReward._cross_attend",
    ):
        monkeypatch.setattr(f"t2v_eval.backends.{place}", probed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(name)


def test_a_mode_that_must_be_used_is_refused_where_it_is_wrong(load, newer, monkeypatch):
    monkeypatch.setattr("t2v_eval.backends.vlm.reading.prefix.prefix_cache", raising)
    with pytest.raises(UnsupportedError, match="`share='packed'` is not possible here"):
        load("qwen2.5-vl-7b", share="packed")
    assert load("qwen2.5-vl-7b", share=False).sharing_mode == "one by one"


def test_a_model_whose_places_are_made_otherwise_is_shown_no_videos(load, images, monkeypatch):
    from transformers import Qwen2_5_VLModel

    scores = load("qwen2.5-vl-7b")(images, TEXTS)
    original = Qwen2_5_VLModel.get_rope_index
    monkeypatch.setattr(
        Qwen2_5_VLModel,
        "get_rope_index",
        lambda self, *args, **options: original(self, *args, **options),
    )
    scorer = load("qwen2.5-vl-7b")
    assert (
        scorer.prompt_builder.sampling is None
        and "not known here" in scorer.prompt_builder.no_video_reason
    )
    torch.testing.assert_close(scorer(images, TEXTS), scores)


def test_places_of_tokens_that_are_made_otherwise_disturb_no_image(
    load, images, newer, monkeypatch
):
    from transformers import Qwen2_5_VLModel

    assert load("qwen2.5-vl-7b").prompt_builder.sampling is not None
    scores = load("qwen2.5-vl-7b")(images, TEXTS)
    original = Qwen2_5_VLModel.get_rope_index
    compute = Qwen2_5_VLModel.compute_3d_position_ids

    def get_rope_index(
        self, input_ids, mm_token_type_ids, image_grid_thw=None, *args, attention_mask=None, **more
    ):
        more["attention_mask"] = attention_mask
        result = original(self, input_ids, mm_token_type_ids, image_grid_thw, *args, **more)
        return (*result, "more")  # as a version to come may have it

    def compute_3d_position_ids(self, *args, **options):
        longer, self.get_rope_index = self.get_rope_index, None
        self.get_rope_index = lambda *a, **o: longer(*a, **o)[:2]
        try:
            return compute(self, *args, **options)
        finally:
            del self.get_rope_index

    monkeypatch.setattr(Qwen2_5_VLModel, "get_rope_index", get_rope_index)
    monkeypatch.setattr(Qwen2_5_VLModel, "compute_3d_position_ids", compute_3d_position_ids)
    scorer = load("qwen2.5-vl-7b")
    assert (
        scorer.prompt_builder.sampling is None
        and "not known here" in scorer.prompt_builder.no_video_reason
    )
    torch.testing.assert_close(scorer(images, TEXTS), scores)
