"""Files of checkpoints that are damaged, malformed or lead elsewhere: an error that names them."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from helpers.models.tiny_vlm import llava
from helpers.toy import draw_image
from safetensors.torch import save_file
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import loading, located
from t2v_eval.local.weights import read_tensors, weight_files
from t2v_eval.registry import models

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def folder(tmp_path):
    """Weights in two shards."""
    there = tmp_path / "there"
    there.mkdir()
    save_file({"a": torch.zeros(2)}, there / "model-1.safetensors")
    save_file({"b": torch.zeros(2)}, there / "model-2.safetensors")
    write_index(there, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    return there


def write_index(folder, files):
    content = files if isinstance(files, str) else json.dumps({"weight_map": files})
    (folder / "model.safetensors.index.json").write_text(content)


def test_shards_are_read_in_order(folder):
    assert [f.name for f in weight_files(folder)] == ["model-1.safetensors", "model-2.safetensors"]
    assert read_tensors(folder).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list instead of an object"),
        ("null", "holds null instead"),
        ("3", "holds a number instead"),
        ('"x"', "holds a text instead"),
        ("{}", "its weight_map is not a table"),
        ('{"weight_map": []}', "its weight_map is not a table"),
        ('{"weight_map": null}', "its weight_map is not a table"),
        ('{"weight_map": {}}', "its weight_map is not a table"),
        ('{"weight_map": {"a": 1}}', "the file of 'a' is 1, which is no name"),
        ('{"weight_map": {"a": null}}', "the file of 'a' is None, which is no name"),
        ('{"weight_map": {"a": ["x"]}}', "the file of 'a' is .'x'., which is no name"),
        ('{"weight_map": {"a": ""}}', "is no .safetensors file"),
        (
            '{"weight_map": {"a": "gone.safetensors"}}',
            "lists shards that are missing: gone.safetensors",
        ),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', "is no .safetensors file"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": {"a": "x/../../m.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": {"a": "/etc/m.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": {"a": "C:\\\\m.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": {"a": "..\\\\m.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": {"a": "m\\u0000.safetensors"}}', "lies outside the checkpoint"),
        ('{"weight_map": ', "is not readable JSON"),
        (DEEP, "is nested too deeply"),
        ('{"weight_map": {"a": ' + DEEP + "}}", "is nested too deeply"),
        ("", "is empty"),
        (POINTER.decode(), "is a Git LFS pointer.*git lfs pull"),
    ],
)
def test_an_index_that_is_none_is_told(folder, content, message):
    write_index(folder, content)
    with pytest.raises(CheckpointError, match=f"model.safetensors.index.json.*{message}|{message}"):
        weight_files(folder)


def test_an_index_that_is_not_text_or_too_large_is_told(folder, monkeypatch):
    (folder / "model.safetensors.index.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="is not readable JSON"):
        weight_files(folder)
    write_index(folder, {"a": "model-1.safetensors"})
    monkeypatch.setattr("t2v_eval.local.checkpoint_files.LARGEST_JSON", 10)
    with pytest.raises(CheckpointError, match="bytes, more than any file of its kind"):
        weight_files(folder)


def test_a_link_out_of_a_folder_is_refused_but_not_the_hubs_own(folder, tmp_path):
    shard = folder / "model-1.safetensors"
    shard.rename(tmp_path / "elsewhere.safetensors")
    shard.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="'model-1.safetensors', which lies outside"):
        weight_files(folder)
    snapshot, blobs = (tmp_path / "models--x--y" / n for n in ("snapshots/abc", "blobs"))
    snapshot.parent.mkdir(parents=True), blobs.mkdir()
    shutil.copytree(folder, snapshot)
    (snapshot / shard.name).unlink()
    shutil.copy(tmp_path / "elsewhere.safetensors", blobs / "123")
    (snapshot / shard.name).symlink_to("../../blobs/123")
    assert read_tensors(snapshot).keys() == {"a", "b"}
    shard.unlink()
    shard.symlink_to(shard)
    with pytest.raises(CheckpointError, match="lies outside|shards that are missing"):
        weight_files(folder)


@pytest.mark.parametrize("name", ["model-1.safetensors", "model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty: its download"), (POINTER, "run `git lfs pull`")]
)
def test_weights_that_were_not_fetched_are_told(folder, name, content, message):
    if name != "model-1.safetensors":
        (folder / "model.safetensors.index.json").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} {message}|{name} is a Git LFS .*{message}"):
        read_tensors(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    result = tmp_path_factory.mktemp("llava")
    llava(result)
    return result


@pytest.fixture
def broken(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "llava")
    return tmp_path / "llava"


FILES = ["config.json", "generation_config.json", "processor_config.json", "tokenizer.json"]
FILES += ["tokenizer_config.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list"),
        ("null", "holds null"),
        ("{", "is not readable JSON"),
        (DEEP, "is nested too deeply"),
        ("", "is empty"),
        (POINTER.decode(), "Git LFS pointer"),
    ],
)
def test_a_description_that_is_none_is_named(broken, name, content, message):
    (broken / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{name} {message}|{name} is a {message}"):
        t2v_eval.load(f"hf-vlm:{broken}", device="cpu")


def replace_in(folder, name, **values):
    config = json.loads((folder / name).read_text())
    for key, value in values.items():
        of = config
        *way, last = key.split("__")
        for step in way:
            of = of[step]
        of[last] = value
    (folder / name).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"text_config": []}),
        ("config.json", {"text_config": 3}),
        ("config.json", {"vision_config": "x"}),
        ("config.json", {"text_config__hidden_size": "many"}),
        ("config.json", {"text_config__num_attention_heads": 0}),
        ("config.json", {"text_config__num_attention_heads": 5}),
        ("config.json", {"text_config__max_position_embeddings": None}),
        ("config.json", {"vision_config__patch_size": 0}),
        ("config.json", {"vision_feature_layer": 99}),
        ("config.json", {"image_token_index": None, "image_token_id": None}),
        ("config.json", {"model_type": 3}),
        ("config.json", {"model_type": None}),
        ("processor_config.json", {"image_processor": []}),
        ("processor_config.json", {"image_processor__size": "large"}),
        ("processor_config.json", {"image_processor__image_mean": None}),
        ("processor_config.json", {"image_processor__image_mean": [0.5]}),
        ("processor_config.json", {"patch_size": "x"}),
        ("processor_config.json", {"patch_size": 0}),
        ("processor_config.json", {"patch_size": 5}),
        ("processor_config.json", {"num_additional_image_tokens": 3}),
        ("processor_config.json", {"processor_class": "NoSuchProcessor"}),
        ("tokenizer.json", {"model": []}),
        ("tokenizer.json", {"added_tokens": [3]}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("tokenizer_config.json", {"eos_token": None}),
        ("generation_config.json", {"eos_token_id": "x"}),
    ],
)
def test_a_value_that_fits_nothing_is_one_line(broken, name, values):
    """Or does no harm: what is loaded scores."""
    replace_in(broken, name, **values)
    try:
        scorer = t2v_eval.load(f"hf-vlm:{broken}", device="cpu")
    except CheckpointError as error:
        assert str(broken) in str(error) and len(str(error)) < 1500
    else:
        assert scorer(draw_image(0), ["a cat", "two dogs by the river"]).isfinite().all()


def test_cut_weights_are_told_by_the_command_line_in_a_line(broken, tmp_path):
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    draw_image(0).save(tmp_path / "a.png")
    command = ["score", "-m", f"hf-vlm:{broken}", str(tmp_path / "a.png"), "-t", "a", "--no-store"]
    ran = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert ran.exit_code == 2
    assert "Traceback" not in ran.output and "llava" in ran.output


def test_what_libraries_raise_over_a_checkpoint_is_an_error_of_its_own(tmp_path):
    for error in (TypeError("x"), KeyError("x"), RecursionError("x"), MemoryError("x")):
        message = rf"{tmp_path} .*{type(error).__name__}"
        with pytest.raises(CheckpointError, match=message), loading():
            located(tmp_path)
            raise error
        with pytest.raises(type(error)), loading():  # before any file was looked for
            raise error
    with pytest.raises(CheckpointError) as told, loading():
        located(tmp_path)
        raise ValueError("knows " + ", ".join(map(str, range(10_000))))
    assert len(str(told.value)) < 800


def test_unreadable_files_are_told(broken):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (broken / "config.json").chmod(0)
    with pytest.raises(CheckpointError, match="config.json cannot be read"):
        t2v_eval.load(f"hf-vlm:{broken}", device="cpu")


def test_models_that_come_with_the_library_load(tmp_path):
    for name in ("tiny-clip", "tiny-clip-flant5"):
        assert models.card(name).demo and t2v_eval.load(name, device="cpu")
