"""The network of FID equals torch-fidelity's, and loads only weights that fit."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from helpers.distribution_goldens import GOLDENS
from helpers.inception_weights import drawn_weights

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.extractors.inception import FidInception, inception_v3
from t2v_eval.inputs.media import open_media

GOLDEN = json.loads((GOLDENS / "inception_v3.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(drawn_weights(FidInception().state_dict()), path)
    return path


def test_features_and_logits_are_those_of_torch_fidelity(weights):
    extractor = inception_v3(weights, resize="tf1", device="cpu")
    (batch,) = extractor.extract([open_media(GOLDENS / GOLDEN["image"])])
    features, logits = batch.features[0].astype(np.float64), batch.logits[0]
    scale = GOLDEN["features_std"]
    assert features[::64] == pytest.approx(GOLDEN["features"], abs=1e-4 * scale)
    assert features.mean() == pytest.approx(GOLDEN["features_mean"], rel=1e-5)
    assert features.std() == pytest.approx(scale, rel=1e-5)
    assert logits[::63] == pytest.approx(GOLDEN["logits"], rel=1e-4, abs=1e-4)


def test_facts_say_what_decides_the_features(weights):
    facts = inception_v3(weights, device="cpu").facts()
    assert facts["network"] == "inception-v3"
    assert facts["resize"] == "clean"
    assert facts["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    json.dumps(facts)


def test_weights_that_do_not_fit_are_refused(weights, tmp_path):
    tensors = torch.load(weights, weights_only=True)
    first = next(iter(tensors))
    for name, change, message in (
        ("lacking", {k: v for k, v in tensors.items() if k != first}, f"lacks weights {first}"),
        ("more", {**tensors, "other": torch.ones(1)}, "unexpected weights other"),
        ("shape", {**tensors, first: torch.ones(1)}, "does not fit"),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(change, path)
        with pytest.raises(CheckpointError, match=message):
            inception_v3(path, device="cpu")


def test_a_name_with_a_hash_is_checked(weights, tmp_path):
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    good, bad = tmp_path / f"weights-{digest[:8]}.pth", tmp_path / "weights-01234567.pth"
    for path in (good, bad):
        path.symlink_to(weights)
    inception_v3(good, device="cpu")
    with pytest.raises(CheckpointError, match=f"begins with {digest[:8]}, not 01234567"):
        inception_v3(bad, device="cpu")


def test_weights_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code of the file ran",))

    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path, pickle_module=pickle)
    with pytest.raises(CheckpointError, match="could run any code"):
        inception_v3(path, device="cpu")


def test_unknown_resizers_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="'clean', 'legacy' or 'tf1'"):
        inception_v3(resize="other")
    with pytest.raises(CheckpointError, match="gone.pth"):
        inception_v3(tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="no file"):
        inception_v3(tmp_path)
