"""Faults planted into sound checkpoints: each is alarms, and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.models.clip_goldens import hf_clip_folder
from helpers.models.siglip import siglip
from helpers.models.tiny_vlm import llava, qwen2_vl, tokenizer
from safetensors.torch import load_file, save_file

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.local.moving import contents
from t2v_eval.registry import models
from t2v_eval.verification.files import check_config, check_head, check_weights
from t2v_eval.verification.results import Outcome
from t2v_eval.verification.run import VerifyOptions, verify

TRAINED = Path(t2v_eval.load("tiny-clip", device="cpu").files[0]).parent


def failures(name, folder, published=None, **options) -> dict[str, str]:
    """The checks that fail, and what they say."""
    options = ScorerOptions(device="cpu", checkpoint=folder, specific=options)
    result = verify(models.card(name), options, VerifyOptions(published=published))
    return {c.name: c.text for c in result.checks if c.outcome is Outcome.failed}


def failures_of_files(folder) -> dict[str, str]:
    """The checks of a vision-language model's weights that fail, without scores."""
    scorer = t2v_eval.load(f"hf-vlm:{folder}", device="cpu")
    parts = list(contents(scorer))
    checks = [*check_weights([scorer], parts, quantised=False), check_head([scorer], parts)]
    return {check.name: check.text for check in checks if check.outcome is Outcome.failed}


def change(folder, **changes):
    """Write tensors anew; a function gets the old tensors and returns what replaces them."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for edit in changes.values():
        tensors = edit(dict(tensors))
    contiguous = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, file, {"format": "pt"})


@pytest.fixture
def clip(tmp_path):
    hf_clip_folder(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def trained(tmp_path):
    shutil.copytree(TRAINED, tmp_path / "trained")
    return tmp_path / "trained"


@pytest.fixture(scope="module")
def small_llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    llava(folder)
    return folder


@pytest.fixture
def vlm(small_llava, tmp_path):
    shutil.copytree(small_llava, tmp_path / "llava")
    return tmp_path / "llava"


def test_a_shard_that_is_missing(clip):
    tensors = load_file(clip / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    index = {name: file for file, names_of in parts.items() for name in names_of}
    save_file({name: tensors[name] for name in names[::2]}, clip / "model-1.safetensors")
    (clip / "model.safetensors").unlink()
    (clip / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "model-2.safetensors" in failures("hf-clip", clip)["loading"]


def test_a_renamed_key(clip, vlm):
    def rename(tensors):
        name = next(name for name in tensors if name.endswith("q_proj.weight"))
        return {n.replace(name, f"{name}s"): t for n, t in tensors.items()}

    change(clip, rename=rename)
    change(vlm, rename=rename)
    assert "q_proj.weight" in failures("hf-clip", clip)["loading"]
    assert "q_proj.weight" in failures(f"hf-vlm:{vlm}", None)["loading"]


def test_a_key_that_no_network_takes(vlm):
    """transformers leaves out what it does not know, such as a bias that its class lacks."""

    def add(tensors):
        weight = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.weight"))
        return {**tensors, weight.replace("weight", "bias"): torch.randn(32)}

    change(vlm, add=add)
    alarms = failures_of_files(vlm)
    assert list(alarms) == ["weights used"] and "q_proj.bias" in alarms["weights used"]


def test_lora_that_was_not_merged(vlm):
    """transformers leaves out its halves, and the scores are those of the network before."""

    def add(tensors):
        name = next(n for n in tensors if n.endswith("layers.0.mlp.up_proj.weight"))
        rows, columns = tensors[name].shape
        halves = {"A": torch.randn(2, columns), "B": torch.randn(rows, 2)}
        stem = name.removesuffix("weight")
        return {**tensors, **{f"{stem}lora_{half}.weight": t for half, t in halves.items()}}

    change(vlm, add=add)
    assert "up_proj.lora_A.weight" in failures_of_files(vlm)["weights used"]


def test_an_adapter_beside_the_weights(vlm):
    (vlm / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "adapter_config.json" in failures_of_files(vlm)["weights used"]


def test_a_part_of_the_file_that_was_not_written(vlm):
    """As a download that stopped leaves it, where the whole size was reserved before."""

    def blank(tensors):
        name = next(n for n in tensors if n.endswith("layers.1.mlp.down_proj.weight"))
        return {**tensors, name: torch.zeros_like(tensors[name])}

    change(vlm, blank=blank)
    alarms = failures_of_files(vlm)
    assert list(alarms) == ["weights finite"] and "down_proj.weight" in alarms["weights finite"]


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_config", "hidden_act", "quick_gelu"),
        ("text_config", "layer_norm_eps", 1e-3),
        ("vision_config", "num_attention_heads", 2),
    ],
)
def test_a_value_of_config_that_no_weight_shows(tower, key, value, trained):
    """Matching texts still score above others, so that only the card tells."""
    config = json.loads((trained / "config.json").read_text())
    config[tower][key] = value
    (trained / "config.json").write_text(json.dumps(config))
    scorer = t2v_eval.load("tiny-clip", device="cpu", checkpoint=trained)
    expected = models.card("tiny-clip").expects_config
    check = check_config(list(contents(scorer)), expected, published=True)
    assert check.outcome is Outcome.failed and f"{tower}.{key} is {value}" in check.text


def test_a_weight_that_is_not_finite(clip):
    name = "visual_projection.weight"

    def spoil(tensors):
        tensors[name][0, 0] = torch.nan
        return tensors

    change(clip, spoil=spoil)
    alarms = failures("hf-clip", clip)
    assert name in alarms["weights finite"]
    assert "matching text" in alarms  # whose scores are none


def test_a_head_that_config_ties_and_the_files_do_not(tmp_path):
    torch.manual_seed(0)
    qwen2_vl(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(config))
    alarms = failures_of_files(tmp_path)
    assert any("lm_head" in text for text in alarms.values()), alarms


def test_a_head_that_the_files_lack(vlm):
    change(vlm, drop=lambda tensors: {n: t for n, t in tensors.items() if "lm_head" not in n})
    assert "lm_head.weight" in failures(f"hf-vlm:{vlm}", None)["loading"]


def test_projections_that_are_swapped(trained):
    """Of equal shape, so that only the meaning of scores shows it."""
    names = ("visual_projection.weight", "text_projection.weight")
    shapes = {load_file(trained / "model.safetensors")[name].shape for name in names}
    assert len(shapes) == 1

    def swap(tensors):
        first, second = (tensors[name] for name in names)
        return {**tensors, names[0]: second, names[1]: first}

    change(trained, swap=swap)
    assert list(failures("tiny-clip", trained, published=True)) == ["matching text"]


def test_a_vocabulary_in_another_order(trained):
    """Each text comes back as it was, and means something else."""
    file = trained / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    ordinary = [word for word in vocabulary if not word.startswith("<|")]
    numbers = [vocabulary[word] for word in ordinary]
    vocabulary |= dict(zip(ordinary, reversed(numbers), strict=True))
    file.write_text(json.dumps(content), "utf-8")
    (trained / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    assert list(failures("tiny-clip", trained, published=True)) == ["matching text"]


def test_the_tokenizer_of_another_family(clip, tmp_path):
    siglip(tmp_path)
    for file in ("vocab.json", "merges.txt"):
        (clip / file).unlink()
    for file in ("tokenizer.json", "tokenizer_config.json", "spiece.model"):
        if (tmp_path / file).exists():
            shutil.copy(tmp_path / file, clip)
    assert "tokenizer" in failures("hf-clip", clip)["loading"]


def test_a_tokenizer_to_which_the_token_of_images_is_a_word(vlm):
    """It is as large as that of the model, and has its special tokens elsewhere."""
    special = ["<|im_start|>", "<|im_end|>", "<pad>"]
    other = tokenizer(special, eos_token="<|im_end|>", pad_token="<pad>")
    other.add_tokens(["<image>"], special_tokens=True)
    other.save_pretrained(vlm)
    alarms = failures(f"hf-vlm:{vlm}", None)
    assert alarms and any("image" in text for text in alarms.values()), alarms


def test_a_tokenizer_that_loses_words(trained):
    """As one does whose lists of merges and of words are of two models."""
    file = trained / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    content["model"]["vocab"] = {
        word.replace("r", "x") if len(word) < 3 else word: number
        for word, number in content["model"]["vocab"].items()
    }
    file.write_text(json.dumps(content), "utf-8")
    alarms = failures("tiny-clip", trained, published=True)
    assert {"loading", "tokenizer"} & alarms.keys(), alarms


def test_a_file_that_is_a_pointer(clip):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (clip / "model.safetensors").write_text(pointer)
    assert "Git LFS pointer" in failures("hf-clip", clip)["loading"]


def test_another_network_than_the_card_expects(clip):
    alarms = failures("hf-clip", clip, published=True)
    assert "projection_dim is 16 here, 512 in the published config.json" in alarms["configuration"]
