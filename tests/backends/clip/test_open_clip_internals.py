"""What `clip/open_clip_internals.py` relies on in OpenCLIP: each test names one thing."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import open_clip
import pytest
import torch
from helpers.models.clip_goldens import FOLDER, tensors

from t2v_eval.backends.clip import open_clip_internals as ours


@pytest.fixture(scope="module")
def network():
    config = json.loads(Path(FOLDER / "tiny-ViT-H.json").read_text())
    result = ours.build(config, False, torch.device("cpu"))
    return result.eval().requires_grad_(False)


def test_architectures_and_tags_are_listed():
    assert "ViT-B-32" in open_clip.list_models()
    assert "openai" in open_clip.list_pretrained_tags_by_model("ViT-B-32")
    assert {"embed_dim", "vision_cfg", "text_cfg"} <= open_clip.get_model_config("ViT-B-32").keys()


def test_a_tag_says_where_its_weights_are_and_how_images_are_prepared():
    tag = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    assert {"hf_hub", "mean", "std", "interpolation", "resize_mode"} <= tag.keys()


def test_networks_are_built_from_their_configuration_alone(network):
    names = {*signature(open_clip.CLIP).parameters}
    assert {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"} <= names
    assert {*names} <= {*signature(open_clip.CustomTextCLIP).parameters}
    assert "multimodal_cfg" in signature(open_clip.CoCa).parameters
    assert {"logit_scale", "logit_bias"} <= {*dir(network)}


def test_towers_of_timm_and_the_hub_can_be_built_without_their_weights():
    assert hasattr(open_clip.CLIPVisionCfg, "timm_model_pretrained")
    assert hasattr(open_clip.CLIPTextCfg, "hf_model_pretrained")


def test_weights_of_other_layouts_are_converted_in_place(network):
    values = tensors("open_clip")
    assert ours.convert_state_dict(network, dict(values)).keys() == values.keys()
    custom = ours.convert_to_custom_text_state_dict(dict(values))
    assert "text.positional_embedding" in custom and "visual.proj" in custom
    for resize in (ours.resize_pos_embed, ours.resize_text_pos_embed):
        assert [*signature(resize).parameters][:2] == ["state_dict", "model"]


def test_a_network_says_how_large_its_images_are(network):
    assert ours.image_size_of(network) == (224, 224)


def test_a_text_tower_has_a_causal_mask_and_names_its_end_token(network):
    assert network.attn_mask.shape == (77, 77)
    assert network.attn_mask[0, 1] == float("-inf")
    assert network.text_pool_type in ("argmax", "eos")
    custom = open_clip.CustomTextCLIP.__init__
    assert custom and hasattr(open_clip.transformer.TextTransformer, "forward")


def test_a_text_tower_has_these_parts(network):
    words = network.token_embedding(torch.tensor([[1, 2]])) + network.positional_embedding[:2]
    read = network.transformer(words, attn_mask=network.attn_mask[:2, :2])
    assert network.ln_final(read).shape == words.shape
    assert network.text_projection.shape[0] == words.shape[-1]


def test_texts_read_up_to_their_end_are_texts_read_whole(network):
    texts = ours.TextTower(network)
    assert texts.stops_at_end
    fast = texts._probe_embeddings()
    texts.stops_at_end = False
    torch.testing.assert_close(fast, texts._probe_embeddings(), rtol=1e-4, atol=1e-5)


def test_the_tokenizer_keeps_its_words_pattern_and_what_it_split():
    tokenizer = open_clip.SimpleTokenizer()
    assert {"<start_of_text>", "<end_of_text>"} <= tokenizer.encoder.keys()
    assert "<start_of_text>" in tokenizer.pat.pattern and "<end_of_text>" in tokenizer.cache
    assert tokenizer.encode("a<|endoftext|>")[-1] != tokenizer.encoder["<end_of_text>"]
    spelled = ours.spell_as_openai(tokenizer)
    assert spelled.encode("a<|endoftext|>")[-1] == tokenizer.encoder["<end_of_text>"]


def test_tokenizers_that_are_parsed_once_share_nothing_that_changes():
    spelled = ours.spell_as_openai(ours.clip_tokenizer(8))
    plain, expected = ours.clip_tokenizer(77), open_clip.SimpleTokenizer()
    assert vars(plain).keys() == vars(expected).keys()
    for text in ("a <|endoftext|> of it", "<start_of_text> Ünïted &amp; 12 cats", "cat " * 90):
        assert plain(text).tolist() == expected(text).tolist()
        assert spelled(text).shape == (1, 8)
    assert plain.encoder == expected.encoder and plain.pat == expected.pat


def test_the_tokenizer_of_the_hub_cleans_texts_and_holds_another():
    assert "context_length" in signature(ours.HFTokenizer).parameters
    assert "tokenizer_mode" in signature(ours.HFTokenizer).parameters
    source = Path(open_clip.tokenizer.__file__).read_text()
    assert "self.clean_fn" in source and "self.tokenizer" in source


def test_weights_are_rounded_in_all_layers_but_norms(network):
    config = json.loads(Path(FOLDER / "tiny-ViT-H.json").read_text())
    result = ours.build(config, False, torch.device("cpu"))
    ours.round_weights(result)
    assert result.visual.conv1.weight.dtype == torch.float16
    assert result.ln_final.weight.dtype == torch.float32


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_transforms_are_steps_of_these_kinds(mode):
    transform = open_clip.image_transform(64, is_train=False, resize_mode=mode)
    pixels = torch.rand(1, 3, 80, 100)
    assert ours.apply_transform(transform, pixels).shape == (1, 3, 64, 64)


def test_a_step_that_is_not_known_is_refused():
    transform = open_clip.image_transform(64, is_train=False)
    transform.transforms.append(torch.nn.Identity())
    with pytest.raises(ours.UnsupportedError, match="Identity"):
        ours.apply_transform(transform, torch.rand(1, 3, 80, 100))
