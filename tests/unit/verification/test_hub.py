"""What a scorer would download is known before, from a hub on a loopback port."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.models.clip_goldens import hf_clip_folder
from helpers.services.hub_server import hub  # noqa: F401  # a fixture

from t2v_eval.api import ScorerOptions
from t2v_eval.registry import models
from t2v_eval.verification.hub import HuggingFace, check_hub, is_local
from t2v_eval.verification.results import Outcome

REPOSITORY = "openai/clip-vit-base-patch32"


@pytest.fixture
def serve(hub, tmp_path):  # noqa: F811
    """Serves a small CLIP as the checkpoint of a card, with changes; None leaves a file out."""
    hf_clip_folder(tmp_path / "clip")
    files = {file.name: file.read_bytes() for file in (tmp_path / "clip").iterdir()}

    def serve(**changes):
        named = {name.replace("__", "."): content for name, content in changes.items()}
        chosen = {n: c for n, c in {**files, **named}.items() if c is not None}
        hub.files[REPOSITORY] = chosen
        return hub

    return serve


def checks(name="hf-clip", **options):
    hugging_face = HuggingFace(cache_dir=options.pop("cache_dir", "nowhere"))
    result = check_hub(models.card(name), ScorerOptions(specific=options), hugging_face)
    return {check.name: check for check in result.checks}


def named(results, start):
    return next(check for name, check in results.items() if name.startswith(start))


def test_files_and_sizes_are_told_and_no_weights_are_downloaded(serve, tmp_path):
    server = serve(flax_model__msgpack=b"x", pytorch_model__bin=b"y" * 10)
    results = checks()
    assert results["files that the scorer reads"].text == (
        "the files before openai--clip-vit-base-patch32/model.safetensors are in order"
    )
    repository = named(results, REPOSITORY)
    read = {n: len(c) for n, c in server.files[REPOSITORY].items() if n[:4] not in ("flax", "pyto")}
    total = f"{len(read)} of {len(read) + 2} files, {sum(read.values()) / 1e9:.2f} GB to download"
    assert repository.text.startswith(total)
    assert repository.value == pytest.approx(sum(read.values()) / 1e9)
    assert "other weights there, which are not read: pytorch_model.bin" in repository.text
    assert results["free disk"].outcome is Outcome.passed
    assert not {name for _, name, _ in server.asked} & {"model.safetensors", "pytorch_model.bin"}


def test_a_shard_that_is_not_there_is_found_before_the_download(serve):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    serve(
        **{"model__safetensors": None, "model-1__safetensors": b"z" * 99},
        model__safetensors__index__json=json.dumps(index).encode(),
    )
    reads = checks()["files that the scorer reads"]
    assert reads.outcome is Outcome.failed and "model-2.safetensors" in reads.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__json": b'{"model_type": "bert"}'}, "model of type 'bert'"),
        ({"config__json": b"{"}, "not readable JSON"),
        ({"preprocessor_config__json": None}, "no processor that can be used"),
        ({"model__safetensors": None}, "holds no weights"),
    ],
)
def test_files_that_do_not_fit_are_found_before_the_download(serve, changes, message):
    serve(**changes)
    reads = checks()["files that the scorer reads"]
    assert reads.outcome is Outcome.failed and message in reads.text


def test_a_repository_that_is_gated_or_gone_is_named(serve):
    server = serve()
    server.files.clear()
    assert "no such repository" in checks()["files that the scorer reads"].text


def test_without_a_network_the_message_says_so(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reads = checks()["files that the scorer reads"]
    assert reads.outcome is Outcome.failed and "hub was not reached" in reads.text


def test_what_lies_elsewhere_is_listed(serve):
    results = checks("laion-aesthetic")
    reads = results["files that the scorer reads"]
    assert reads.outcome is Outcome.failed  # this hub has no repository of its CLIP
    assert "timm/vit_large_patch14_clip_224.openai" in reads.text


def test_only_what_is_on_this_machine_is_local(tmp_path, monkeypatch):
    """A snapshot as the hub's client leaves it; one without weights is not enough."""
    cache = tmp_path / "hub" / "models--openai--clip-vit-base-patch32"
    snapshot = cache / "snapshots" / ("c" * 40)
    hf_clip_folder(snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        "huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub")
    )
    assert is_local(models.card("hf-clip")) and is_local(models.card("tiny-clip-flant5"))
    assert not is_local(models.card("pickscore-v1")) and not is_local(models.card("gpt-4o"))
    assert not is_local(models.card("openai:ViT-B-32"))
    (snapshot / "model.safetensors").unlink()
    assert not is_local(models.card("hf-clip"))
    assert Path(snapshot, "config.json").exists()
