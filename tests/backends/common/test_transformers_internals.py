"""What `common/transformers_internals.py` relies on in transformers: each test names one thing."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from helpers.models.tiny_vlm import TINY
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    Blip2ForImageTextRetrieval,
    BlipTextConfig,
    BlipTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DynamicCache,
    T5Config,
    T5ForConditionalGeneration,
)

from t2v_eval.backends.common import transformers_internals as ours

BLIP2 = Path(__file__).parents[2] / "goldens" / "vqa" / "blip2" / "checkpoint" / "hf"
KINDS = ("qwen2_5_vl", "gemma3", "mllama", "qwen3_5", "internvl")


@pytest.fixture(scope="module")
def t5():
    config = T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=40, num_heads=4, num_layers=2,
        decoder_start_token_id=0, attn_implementation="sdpa",
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    def make(kind: str):
        folder = tmp_path_factory.mktemp(kind)
        TINY[kind](folder)
        return (
            AutoModelForImageTextToText.from_pretrained(folder)
            .eval()
            .requires_grad_(False)
            .base_model
        )

    return {kind: make(kind) for kind in KINDS}


def ids(count: int = 6) -> torch.Tensor:
    return torch.arange(10, 10 + count)[None]


@pytest.mark.parametrize("kind", KINDS)
def test_the_argument_that_takes_a_cache_has_a_known_name(kind, networks):
    for part in (networks[kind], ours.language_of(networks[kind])):
        assert ours.cache_argument(part) in signature(type(part).forward).parameters


@pytest.mark.parametrize("name", ours.CACHE)
def test_the_name_of_the_cache_is_that_of_the_signature(name):
    result: dict[str, object] = {}
    exec(f"class Network:\n def forward(self, ids, {name}=None): pass", result)
    assert ours.cache_argument(result["Network"]()) == name


def test_a_cache_that_only_the_language_model_names_is_called_as_there():
    class Language(nn.Module):
        def forward(self, inputs_embeds, past_key_values=None): ...

    class Around(nn.Module):
        language_model = Language()

        def forward(self, input_ids, **options): ...

    assert ours.cache_argument(Around()) == "past_key_values"


def test_networks_without_values_draw_none(monkeypatch):
    config, tensors = CLIPVisionConfig(hidden_size=12, num_hidden_layers=1, patch_size=112), []
    monkeypatch.setattr(CLIPVisionModel, "_init_weights", lambda _, module: tensors.append(module))
    CLIPVisionModel(config)
    assert tensors
    tensors.clear()
    with ours.empty_weights():
        network = CLIPVisionModel(config)
    assert not tensors and {weight.device.type for weight in network.parameters()} == {"meta"}
    assert [buffer.tolist() for buffer in network.buffers()] == [[[0, 1, 2, 3, 4]]]


def test_a_config_says_how_attention_is_computed(t5):
    assert ours.attention_of(t5) == "sdpa"


def test_generate_takes_the_output_of_an_encoder(t5):
    encoded = ours.encoder_output(torch.randn(1, 5, 32))
    assert t5.generate(encoder_outputs=encoded, max_new_tokens=2).shape[0] == 1


def test_t5_decoders_hold_their_cross_attention_in_the_second_layer(t5):
    places = ours.t5_cross_attentions(t5)
    assert len(places) == 2
    assert all(type(getattr(*place)).__name__ == "T5Attention" for place in places)


def test_t5_attention_names_its_products_and_sizes(t5):
    attention = getattr(*ours.t5_cross_attentions(t5)[0])
    assert (attention.n_heads, attention.key_value_proj_dim) == (4, 8)
    assert attention.q.weight.shape == attention.k.weight.shape == (32, 32)
    assert attention.v.weight.shape == attention.o.weight.shape == (32, 32)


def test_t5_attention_takes_masks_states_and_biases_by_these_names(t5):
    names = ours.parameter_names(type(getattr(*ours.t5_cross_attentions(t5)[0])).forward)
    assert {"mask", "key_value_states", "position_bias"} <= {*names}
    assert {*ours.CACHE} & {*names}


def test_t5_attention_gives_three_things_of_which_the_last_is_not_read(t5):
    attention = getattr(*ours.t5_cross_attentions(t5)[0])
    result = attention(torch.randn(1, 2, 32), key_value_states=torch.randn(1, 5, 32))
    assert len(result) == 3 and result[0].shape == (1, 2, 32)


def test_t5_hands_its_cache_to_its_cross_attention(t5):
    values: list[object] = []
    attention = getattr(*ours.t5_cross_attentions(t5)[0])
    name = ours.cache_argument(attention)
    hook = attention.register_forward_pre_hook(
        lambda module, args, options: values.append(options.get(name)), with_kwargs=True
    )
    t5.generate(encoder_outputs=ours.encoder_output(torch.randn(1, 5, 32)), max_new_tokens=2)
    hook.remove()
    assert values and all(cache is not None for cache in values)


def test_q_formers_hold_layers_of_keys_and_values_in_some_layers():
    qformer = Blip2ForImageTextRetrieval.from_pretrained(BLIP2).qformer
    places = ours.qformer_cross_attentions(qformer)
    assert [name for _, name in places[:2]] == ["key", "value"]
    width = qformer.config.encoder_hidden_size
    assert all(getattr(*place).in_features == width for place in places)
    count = sum(layer.has_cross_attention for layer in qformer.encoder.layer)
    assert len(places) == 2 * count > 0


def test_blips_text_encoder_holds_layers_of_keys_and_values_in_all_layers():
    config = BlipTextConfig(
        hidden_size=32, encoder_hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=40, vocab_size=50, is_decoder=True, bos_token_id=1,
    )  # fmt: skip
    places = ours.blip_cross_attentions(BlipTextModel(config, add_pooling_layer=False))
    assert [getattr(*place).in_features for place in places] == [16] * 4


def test_a_cache_lists_its_layers_which_hold_keys_and_values(networks):
    layers = ours.cached_layers(networks["qwen2_5_vl"], {"input_ids": ids()})
    depth = networks["qwen2_5_vl"].language_model.config.num_hidden_layers
    assert len(layers) == depth
    assert all(layer.keys.shape[2] == layer.values.shape[2] == 6 for layer in layers)


def test_a_layer_of_linear_attention_can_be_copied_for_several_rows(networks):
    network = networks["qwen3_5"]
    layers = ours.cached_layers(network, {"input_ids": ids()})
    assert ours.has_linear_attention(network) and any(
        isinstance(layer, ours.LINEAR) for layer in layers
    )
    result = ours.prefix_cache(network, layers, [0, 0, 0], 6, 1)
    read = network.language_model(
        inputs_embeds=network.get_input_embeddings()(ids(2)).expand(3, -1, -1),
        **{ours.cache_argument(network.language_model): result},
        position_ids=torch.tensor([[6, 7]]).expand(3, -1),
    ).last_hidden_state
    assert read.shape[:2] == (3, 2)


@pytest.mark.parametrize("rows", [[0], [1, 0], [0, 1], [0, 0, 1], [1, 1, 1]])
def test_a_cache_has_a_row_for_each_prefix_that_is_named(rows):
    network = SimpleNamespace(language_model=SimpleNamespace(config=SimpleNamespace()))
    states = torch.arange(2.0)[:, None, None, None].expand(2, 1, 5, 4)
    result = ours.prefix_cache(network, [ours.PrefixLayer(states, states)], rows, 3, 2)
    assert result.layers[0].keys[:, 0, 0, 0].tolist() == rows
    assert result.layers[0].keys.shape == (len(rows), 1, 3, 4)


def test_a_layer_of_our_own_is_read_and_not_written(networks):
    network = networks["qwen2_5_vl"]
    layers = ours.cached_layers(network, {"input_ids": ids()})
    result = ours.prefix_cache(network, layers, [0], 6, 1)
    options = {ours.cache_argument(network.language_model): result, "use_cache": True}
    embedded = network.get_input_embeddings()(torch.arange(16, 19)[None])
    first, second = (
        network.language_model(
            inputs_embeds=embedded, position_ids=torch.arange(6, 9)[None], **options
        ).last_hidden_state
        for _ in range(2)
    )
    whole = network(input_ids=ids(9), use_cache=False).last_hidden_state[:, 6:]
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, whole, rtol=1e-4, atol=1e-4)


def test_a_cache_takes_layers_that_are_appended():
    assert isinstance(DynamicCache().layers, list)


def test_models_with_their_own_places_leave_what_they_are_off_by(networks):
    ours.cached_layers(networks["qwen2_5_vl"], {"input_ids": ids()})
    assert hasattr(networks["qwen2_5_vl"], "rope_deltas")
    assert ours.position_offsets(nn.Linear(1, 1), 3) == [0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_part_that_reads_has_a_known_name(kind, networks):
    assert hasattr(ours.language_of(networks[kind]), "config")


def test_a_config_lists_the_kinds_of_its_layers(networks):
    assert ours.layer_types_of(networks["gemma3"].language_model.config) == {
        "full_attention",
        "sliding_attention",
    }
    assert "linear_attention" in ours.layer_types_of(networks["qwen3_5"].language_model.config)


def test_a_config_says_which_layers_look_at_images_from_within(networks):
    config = networks["mllama"].language_model.config
    assert config.cross_attention_layers


def test_a_decoder_with_two_kinds_of_layers_takes_a_mask_for_each(networks):
    decoder = networks["gemma3"].language_model
    distance = torch.arange(6)[:, None] - torch.arange(6)
    allowed = (distance >= 0)[None]
    masks = ours.attention_masks(decoder.config, allowed, distance[None], torch.float32)
    assert {*masks} == {"full_attention", "sliding_attention"}
    embedded = decoder.get_input_embeddings()(ids())
    result = decoder(inputs_embeds=embedded, attention_mask=masks).last_hidden_state
    torch.testing.assert_close(result, decoder(inputs_embeds=embedded).last_hidden_state)


def test_rotary_positions_of_the_dynamic_kind_keep_what_they_began_with():
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        vocab_size=99, max_position_embeddings=8,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    )  # fmt: skip
    network = LlamaModel(config).eval()
    assert ours.max_stable_length(network) == 8
    short = network(input_ids=ids()).last_hidden_state
    network(input_ids=ids(20))
    ours.reset_dynamic_rope(network)
    torch.testing.assert_close(network(input_ids=ids()).last_hidden_state, short)


def test_networks_keep_the_numbers_of_their_positions_in_a_buffer():
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=28, patch_size=7,
    )  # fmt: skip
    with torch.device("meta"):
        network = CLIPVisionModel(config)
    network.to_empty(device="cpu")
    ours.fill_position_ids(network)
    numbers = [
        module.position_ids for module in network.modules() if hasattr(module, "position_ids")
    ]
    assert [item.tolist() for item in numbers] == [[list(range(17))]]


def test_a_class_written_for_transformers_4_gets_what_loading_asks_for():
    class Old:
        def tie_weights(self):
            return "tied"

    ours.adapt_to_transformers_5(Old)
    assert Old.all_tied_weights_keys == {}
    assert Old().tie_weights(missing_keys=[], recompute_mapping=False) == "tied"
    assert "all_tied_weights_keys" in Path(transformers.modeling_utils.__file__).read_text()


def test_classes_beside_a_checkpoint_are_found_by_file_and_name(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("class Own:\n    answer = 42\n")
    monkeypatch.setattr(
        transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules")
    )
    assert ours.load_remote_class("own.Own", tmp_path).answer == 42
