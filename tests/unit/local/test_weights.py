"""What a scorer's id says of its weights: their content, and that of those it was made of."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, draw_image

import t2v_eval
from t2v_eval.cards import ModelCard
from t2v_eval.errors import CheckpointError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.run import evaluate
from t2v_eval.local import weights as of_weights
from t2v_eval.local.weights import fill, fingerprint, read_tensors
from t2v_eval.registry import Registry


class Filed(ToyEmbedding):
    """Its scale is what a file says."""

    version = "1"

    def __init__(self, path, **options):
        super().__init__(**options)
        self.sign = float(path.read_text())
        self.files = [path]

    def similarity(self, images, texts):
        return self.sign * super().similarity(images, texts)


class Rated(Benchmark):
    def items(self):
        raise AssertionError("the test has its own")

    def metrics(self, items, scores):
        return {"mean": float(np.mean(scores))}


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.txt"
    path.write_text("1")
    return path


@pytest.fixture
def filed(monkeypatch):
    registry = Registry("model", "t2v_eval.backends", ModelCard)
    registry.register("filed")(Filed)
    monkeypatch.setattr("t2v_eval.api.models", registry)


def replace(path, text):
    """Other content at another time, be the clock of the file system as coarse as it may."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


@pytest.mark.parametrize("name", ["a" * 40, "0123456789abcdef" * 4])
def test_only_the_hubs_cache_names_files_by_their_content(tmp_path, name):
    for folder, trusted in (
        ("models--org--name/blobs", True),
        ("datasets--org--name/blobs", True),
        ("mine/blobs", False),
        ("blobs", False),
        ("models--org--name/mine", False),
    ):
        file = tmp_path / folder / name
        file.parent.mkdir(parents=True)
        file.write_text("one")
        before = fingerprint([file])
        replace(file, "two")
        assert (fingerprint([file]) == before) is trusted, folder


@pytest.mark.parametrize("name", ["weights.bin", "a" * 39, "g" * 40, "a" * 40 + ".incomplete"])
def test_another_name_in_the_hubs_cache_says_nothing_of_the_content(tmp_path, name):
    file = tmp_path / "models--org--name" / "blobs" / name
    file.parent.mkdir(parents=True)
    file.write_text("one")
    before = fingerprint([file])
    replace(file, "two")
    assert fingerprint([file]) != before


@pytest.mark.parametrize("change", [lambda p: replace(p, "-1"), lambda p: p.unlink()])
def test_weights_that_changed_since_they_were_read_have_no_id(weights, change):
    scorer, asked = Filed(weights, device="cpu"), Filed(weights, device="cpu")
    before = asked.with_template().id
    change(weights)
    assert asked.id == before, "known since before"
    with pytest.raises(CheckpointError, match=r"weights.txt.*changed.*[Ll]oad.* again"):
        _ = scorer.id


def test_a_folder_of_files_is_watched_too(tmp_path, weights):
    scorer = Filed(weights, device="cpu")
    scorer.files = [weights, tmp_path]
    (tmp_path / "more.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"more.json.*changed"):
        _ = scorer.id


def test_weights_replaced_after_loading_poison_no_store(tmp_path, weights, filed):
    kept = tmp_path / "s.db"
    first = t2v_eval.load("filed", path=weights, device="cpu", store=kept)
    replace(weights, "-1")
    score = first([draw_image(0)], ["a cat"])
    second = t2v_eval.load("filed", path=weights, device="cpu", store=kept)
    assert second.id != first.id
    torch.testing.assert_close(second([draw_image(0)], ["a cat"]), -score)
    direct = Filed(weights, device="cpu", store=kept)
    replace(weights, "1")
    with pytest.raises(CheckpointError, match="changed"):
        direct([draw_image(1)], ["a cat"])


def test_without_a_store_loading_hashes_nothing(monkeypatch, weights, filed):
    hashed = []
    monkeypatch.setattr(of_weights, "fingerprint", lambda files: hashed.append(files) or "0")
    scorer = t2v_eval.load("filed", path=weights, device="cpu")
    scorer([draw_image(0)], ["a cat"])
    assert not hashed and scorer.id and len(hashed) == 1


def test_a_run_without_a_store_is_not_lost_where_weights_are_replaced_meanwhile(weights):
    class Replaced(Filed):
        def encode_images(self, batch):
            replace(weights, "-1")
            return super().encode_images(batch)

    before = Replaced(weights, device="cpu").id
    items = [Item([draw_image(n)], ["a cat"], labels={"human": [n]}) for n in range(3)]
    run = evaluate(Replaced(weights, device="cpu"), Rated(), items=items, resamples=2)
    assert run.scorer.id == before


class Runs:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_runs_nothing(tmp_path):
    folder = tmp_path / "made by unpickling"
    torch.save({"proj": torch.ones(2), "extra": Runs(folder)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin holds more than tensors"):
        read_tensors(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("nesting", [0, 1, 2])
def test_tensors_are_read_by_name(tmp_path, nesting):
    content = {"proj": torch.ones(2), "step": 3}
    for _ in range(nesting):
        content = {"state_dict": content, "epoch": 1}
    torch.save(content, tmp_path / "pytorch_model.bin")
    tensors = read_tensors(tmp_path)
    assert tensors.keys() == {"proj"} and torch.equal(tensors["proj"], torch.ones(2))


def test_a_module_is_filled_only_by_what_fits():
    def fill_layer(**tensors):
        with torch.device("meta"):
            layer = torch.nn.Linear(2, 3)
        fill(layer, tensors, Path("model.bin"))
        return layer

    weight, bias = torch.ones(3, 2), torch.zeros(3)
    layer = fill_layer(weight=weight, bias=bias)
    assert layer(torch.ones(1, 2)).tolist() == [[2, 2, 2]]
    assert not layer.training and not layer.weight.requires_grad
    for tensors, message in (
        ({"weight": weight}, "lacks weights bias"),
        ({"weight": weight, "bias": bias, "scale": bias}, "has the unexpected weights scale"),
        ({"weight": weight.T, "bias": bias}, r"weight is of shape \(2, 3\) instead of \(3, 2\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            fill_layer(**tensors)


def test_weights_written_while_they_are_hashed_have_no_id(weights, monkeypatch):
    whole = of_weights.fingerprint

    def slow(paths):
        value = whole(paths)
        replace(weights, "-1")
        return value

    watched = of_weights.Watched([weights])
    monkeypatch.setattr(of_weights, "fingerprint", slow)
    with pytest.raises(CheckpointError, match="changed since the model was loaded"):
        watched.fingerprint()


@pytest.mark.parametrize("wrap", [("model",), ("module",), ("state_dict", "model")])
def test_tensors_that_a_training_library_wrapped(tmp_path, wrap):
    content = {"proj.weight": torch.ones(2)}
    for name in wrap:
        content = {"epoch": 3, name: content}
    torch.save(content, tmp_path / "weights.pth")
    assert read_tensors(tmp_path / "weights.pth").keys() == {"proj.weight"}
