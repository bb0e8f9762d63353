"""A LoRA adapter beside a vision-language model: the weights that its formula gives."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import qwen2_5_vl, save_tiny
from helpers.toy import draw_image
from safetensors.torch import load_file, save_file

import t2v_eval
from t2v_eval.errors import CheckpointError
from t2v_eval.local.moving import contents
from t2v_eval.verification.files import check_weights

RANK, ALPHA = 2, 6
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "use_dora": False}
# Names as peft wrote them with transformers before and since 4.52, and those of the network.
UPDATED = {
    "model.layers.0.self_attn.q_proj": "model.language_model.layers.0.self_attn.q_proj",
    "model.language_model.layers.1.mlp.down_proj": "model.language_model.layers.1.mlp.down_proj",
    "visual.blocks.1.attn.qkv": "model.visual.blocks.1.attn.qkv",
}
TEXTS = ["a cat", "two dogs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory, qwen2_5_vl)


@pytest.fixture(scope="module")
def network(folder):
    return t2v_eval.load(f"hf-vlm:{folder}", device="cpu").network


def write_adapter(folder, network, **config):
    """An adapter of random updates; return the matrices by the names of the network."""
    draw = np.random.RandomState(0)
    tensors, updates = {}, {}
    parameters = dict(network.named_parameters())
    for stored, name in UPDATED.items():
        rows, columns = parameters[f"{name}.weight"].shape
        down, up = (
            torch.from_numpy(draw.normal(size=shape)).float()
            for shape in ((RANK, columns), (rows, RANK))
        )
        tensors[f"base_model.model.{stored}.lora_A.weight"] = down
        tensors[f"base_model.model.{stored}.lora_B.weight"] = up
        updates[name] = up @ down
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return updates


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, [ALPHA / RANK] * 3),
        ({"use_rslora": True}, [ALPHA / RANK**0.5] * 3),
        ({"alpha_pattern": {"layers.1.mlp.down_proj": 1}}, [ALPHA / RANK, 1 / RANK, ALPHA / RANK]),
    ],
)
def test_its_updates_are_added_to_the_weights(folder, network, tmp_path, config, scales):
    updates = write_adapter(tmp_path / "adapter", network, **config)
    adapted = t2v_eval.load(f"hf-vlm:{folder}", adapter=str(tmp_path / "adapter"), device="cpu")
    plain, merged = dict(network.named_parameters()), dict(adapted.network.named_parameters())
    for (name, update), scale in zip(updates.items(), scales, strict=True):
        weight = plain.pop(f"{name}.weight")
        expected = weight + scale * update
        torch.testing.assert_close(merged[f"{name}.weight"], expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(merged[name], weight) for name, weight in plain.items())


def test_scores_are_those_of_merged_weights(folder, network, tmp_path):
    updates = write_adapter(tmp_path / "adapter", network)
    shutil.copytree(folder, tmp_path / "merged")
    file = tmp_path / "merged" / "model.safetensors"
    tensors = load_file(file)
    for name, update in updates.items():
        ending = name.removeprefix("model.").removeprefix("language_model.")
        (stored,) = [key for key in tensors if key.endswith(f"{ending}.weight")]
        tensors[stored] += ALPHA / RANK * update
    save_file(tensors, file, {"format": "pt"})
    options = {"adapter": str(tmp_path / "adapter"), "device": "cpu"}
    adapted = t2v_eval.load(f"hf-vlm:{folder}", **options)
    merged = t2v_eval.load(f"hf-vlm:{tmp_path / 'merged'}", device="cpu")
    image = draw_image(1)
    torch.testing.assert_close(adapted(image, TEXTS), merged(image, TEXTS), atol=1e-5, rtol=1e-4)
    plain = t2v_eval.load(f"hf-vlm:{folder}", device="cpu")
    assert (adapted(image, TEXTS) - plain(image, TEXTS)).abs().max() > 1e-3
    assert len({adapted.id, merged.id, plain.id}) == 3
    checks = check_weights([adapted], list(contents(adapted)), quantised=False)
    assert {check.outcome.value for check in checks} == {"passed"}, checks


@pytest.mark.parametrize(
    ("config", "rename", "message"),
    [
        ({"peft_type": "IA3"}, {}, "peft_type = 'IA3', which is not read here: merge it"),
        ({"use_dora": True}, {}, "use_dora = True"),
        ({"modules_to_save": ["lm_head"]}, {}, "modules_to_save"),
        ({}, {"layers.0": "layers.9"}, "updates layers.9.*, which this model does not have"),
        ({}, {"lora_A": "lora_embedding_A"}, "is no update of a matrix"),
        ({}, {"q_proj.lora_A": "k_proj.lora_A"}, "lacks weights .*q_proj.lora_A|k_proj.lora_B"),
    ],
)
def test_what_is_no_such_adapter_is_refused(folder, network, tmp_path, config, rename, message):
    write_adapter(tmp_path, network, **config)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for old, new in rename.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        t2v_eval.load(f"hf-vlm:{folder}", adapter=str(tmp_path), device="cpu")


def test_a_folder_without_an_adapter_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no adapter_config\.json"):
        t2v_eval.load(f"hf-vlm:{folder}", adapter=str(tmp_path), device="cpu")
