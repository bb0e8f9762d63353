"""What `vlm/transformers_vision.py` relies on in transformers: each test names one thing."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from helpers.models.tiny_vlm import TINY, save_tiny
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionModel,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2_5_VLModel,
    Qwen2VLModel,
    Qwen2VLVideoProcessor,
)
from transformers.image_utils import SizeDict

from t2v_eval.backends.vlm import transformers_vision as ours

KINDS = ("qwen2_5_vl", "internvl", "llava_onevision", "qwen3_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    def make(kind: str):
        return save_tiny(tmp_path_factory, TINY[kind])

    return {kind: make(kind) for kind in (*KINDS, "mllama")}


@pytest.fixture(scope="module")
def networks(folders):
    return {
        kind: AutoModelForImageTextToText.from_pretrained(folder).eval().base_model
        for kind, folder in folders.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_takes_what_its_vision_tower_made(kind, networks):
    assert ours.MM_ENCODER_OUTPUTS in signature(type(networks[kind]).forward).parameters
    assert type(ours.find_vision_encoder(networks[kind])) is ours.VisionEncoder


def test_the_features_of_an_image_have_these_parts(networks):
    pixels = torch.randn(2, 3, 28, 28)
    result = networks["internvl"].get_image_features(pixels, return_dict=True)
    assert result.get("pooler_output") is not None
    assert "deepstack_features" in ours.ENCODER_OUTPUTS


def test_mllama_takes_tiles_and_has_a_projector(networks):
    assert type(ours.find_vision_encoder(networks["mllama"])) is ours.MllamaVisionEncoder
    assert {*ours.MLLAMA_IMAGE_INPUTS} <= {*signature(type(networks["mllama"]).forward).parameters}
    assert hasattr(networks["mllama"], "vision_model")


@pytest.mark.parametrize("kind", [Qwen2VLModel, Qwen2_5_VLModel])
def test_qwen_places_tokens_in_a_method_that_takes_these(kind):
    assert {*ours.ROPE_ARGUMENTS} <= {*signature(kind.get_rope_index).parameters}


def test_qwen_calls_that_method_of_the_network(networks):
    network, called = networks["qwen2_5_vl"], []
    reference = network.get_rope_index

    def spied(*args, **options):
        called.append(options)
        return reference(*args, **options)

    network.get_rope_index = spied
    try:
        inputs = torch.arange(10, 16)[None]
        grid, kinds = torch.tensor([[1, 2, 2]]), torch.zeros_like(inputs)
        places, shift = network.get_rope_index(inputs, kinds, image_grid_thw=grid)
    finally:
        del network.get_rope_index
    assert called and places.shape == (3, 1, 6) and shift.shape == (1, 1)


def test_processors_say_which_settings_they_take(folders):
    processor = AutoProcessor.from_pretrained(folders["qwen2_5_vl"])
    assert {"do_resize", "size"} <= ours.settings_of(processor.image_processor)
    assert {"do_resize", "do_sample_frames"} <= ours.settings_of(processor.video_processor)
    assert ours.settings_of(None) == set()


@pytest.mark.parametrize(
    "kind", [InternVLVideoProcessor, LlavaOnevisionVideoProcessor, Qwen2VLVideoProcessor]
)
def test_video_processors_resize_in_a_method_that_takes_pixels_and_a_size(kind):
    assert [*signature(kind.resize).parameters][2] == "size"


@pytest.mark.parametrize("result", [ours.InternVLFrameProcessor, ours.LlavaOnevisionFrameProcessor])
def test_frames_are_resized_by_our_method(result, monkeypatch):
    sizes = []

    def resize(self, image, size, *_, **__):
        sizes.append((size.height, size.width))
        return torch.zeros(*image.shape[:-2], size.height, size.width)

    monkeypatch.setattr(ours.PillowVideoProcessor, "resize", resize)
    video = torch.zeros(2, 3, 40, 60, dtype=torch.uint8)
    result(size={"height": 28, "width": 28})([video], return_tensors="pt", do_sample_frames=False)
    assert sizes == [(28, 28)]


def test_qwens_frames_are_parted_in_a_method_that_can_be_given_more():
    assert [*signature(Qwen2VLVideoProcessor.patchify).parameters][1] == "videos"
    frames = ours.TarsierFrameProcessor(patch_size=14, merge_size=2, temporal_patch_size=2)
    video = torch.zeros(2, 3, 56, 56, dtype=torch.uint8)
    result = frames([video], return_tensors="pt", do_sample_frames=False)
    assert result["video_grid_thw"][0, 0] == 2  # and not 1


def test_a_size_is_a_dataclass_of_which_edges_can_be_replaced():
    from dataclasses import replace

    size = replace(SizeDict(shortest_edge=3, longest_edge=9), longest_edge=18)
    assert (size.shortest_edge, size.longest_edge, size.height) == (3, 18, None)


def test_llava_onevision_pools_videos_in_a_method_and_ends_them_with_a_newline():
    assert [*signature(LlavaOnevisionModel.apply_pooling).parameters][1] == "image_features"
    assert "pixel_values_videos" in signature(LlavaOnevisionModel.get_video_features).parameters


def test_llava_onevision_counts_tokens_of_a_video_in_a_method():
    names = [*signature(LlavaOnevisionProcessor.replace_video_token).parameters]
    assert names[1:3] == ["video_inputs", "video_idx"]


def test_llava_onevision_has_a_newline_and_a_pooled_grid(networks):
    network = networks["llava_onevision"]
    assert network.image_newline.ndim == 1
    pooled = network.apply_pooling(torch.randn(2, 16, network.config.vision_config.hidden_size))
    assert pooled.shape[:2] == (2, 4)
