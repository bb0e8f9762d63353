"""`t2v-eval distance` gives what the packages of the field give, from .npz files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.distribution_goldens import FOLDERS, GOLDENS, Golden, goldens
from typer.testing import CliRunner

from t2v_eval.cli.main import app

KID = {"num_subsets": "subsets", "kid_subsets": "subsets", "n_subsets": "subsets"}
KID |= dict.fromkeys(("max_subset_size", "kid_subset_size", "subset_size"), "size")
KID |= {"kid_kernel_rbf_sigma": "sigma"}
SEEDS = ("numpy_seed", "rng_seed")

# Goldens by their kind: the metric, and what of the golden's value it is.
RULES: list[tuple[str, str, Callable[[Any], Any]]] = [
    (r"(fid|fd)_(cleanfid|pytorch_fid|torch_|torchm|dgm|efficient).*", "fid", lambda s: s),
    (r"kid_(cleanfid|torch_fidelity)_.*", "kid-subsets", lambda s: np.ravel(s)[0]),
    (r"kd_dgm", "kid-subsets", lambda s: s["mean"]),
    (r"kid_unbiased_full_torchmetrics_poly_mmd", "kid", lambda s: s),
    (r"cmmd_.*", "cmmd", lambda s: s),
    *(
        (r"prdc_.*", name, lambda s, name=name: s[name])
        for name in ("precision", "recall", "density", "coverage")
    ),
    (r"prc?_torch_fidelity_k.", "precision-k3", lambda s: s["precision"]),
    (r"prc?_torch_fidelity_k.", "recall-k3", lambda s: s["recall"]),
    (r"authpct", "authpct", lambda s: s),
    (r"vendi_linear.*", "vendi", lambda s: s),
    (r"mifid_.*", "mifid", lambda s: s),
    (r"mind", "mind", lambda s: s),
    (r"(fd|fid)_infinity_.*", "fid-infinity", lambda s: s),
    (r"is_(splits|dgm).*", "inception-score", lambda s: np.ravel(s)[0]),
    (r"is_infinity_original", "is-infinity", lambda s: s),
]
# torchmetrics draws subsets by torch's own random numbers; the functions are compared with it in
# tests/unit/stats/distances.
ELSEWHERE = r"kid_torchmetrics|resize_.*"
DEFECT = r"vendi_poly.*"  # of dgm-eval: its kernel is not 1 on the diagonal
ALL = [golden for folder in FOLDERS for golden in goldens(folder)]
CASES = [
    (golden, metric, value)
    for golden in ALL
    for pattern, metric, value in RULES
    if re.fullmatch(pattern, golden.kind)
]
IDS = [f"{golden.id} {metric}" for golden, metric, _ in CASES]


def run(*arguments: Any) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["distance", "--json", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def options(golden: Golden, metric: str) -> dict[str, Any]:
    """The options of a metric that make it the convention of a golden."""
    p, kind = golden.params, golden.kind
    if metric == "kid-subsets":
        draws = "clean-fid" if "cleanfid" in kind else "torch-fidelity"
        return {KID[key]: value for key, value in p.items() if key in KID} | {"draws": draws}
    if metric == "cmmd":
        return {"normalise": "unnormalised" not in kind}
    if metric in ("precision", "recall", "density", "coverage"):
        return {"k": p["nearest_k"]}
    if metric.endswith("-k3"):
        return {"k": p.get("prc_neighborhood", 3)}
    if metric == "vendi":
        return {"order": "Infinity" if p["q"] == "inf" else p["q"]}
    if metric == "mifid":
        return {"over": "reference", "threshold": p["cosine_distance_eps"]}
    if metric == "mind":
        return {"projections": p["mind_num_projections"], "draws": "torch-fidelity"}
    if metric == "fid-infinity":
        draws = "shuffled" if "original" in kind else "independent"
        return {"smallest": p["points"][0], "points": p["num_points"], "draws": draws}
    if metric == "inception-score":
        remainder = "drop" if "dgm" in kind else "spread"
        shuffle = json.dumps(p["shuffle"])
        return {"splits": p["splits"], "remainder": remainder, "shuffle": shuffle}
    if metric == "is-infinity":
        return {"smallest": p["min_fake"], "points": p["num_points"]}
    return {}


def seed(golden: Golden) -> int:
    if golden.kind.startswith("fd_infinity"):
        return 7
    if golden.kind.startswith("is_dgm"):
        return 2020
    return next((golden.params[name] for name in SEEDS if name in golden.params), 0)


def tolerance(golden: Golden, metric: str) -> dict[str, float]:
    """As the goldens' README says; float32 in the original, or a singular covariance, is less."""
    if golden.kind == "cmmd_cmmd_pytorch":
        return {"abs": 2e-4}
    if metric == "cmmd":
        return {"abs": 1e-6}
    if metric in ("mind", "mifid") or "streamed" in golden.kind:
        return {"rel": 1e-4}
    few = golden.params.get("set") == "few" or metric == "fid-infinity"
    return {"rel": 1e-5} if few else {"rel": 1e-6, "abs": 1e-6 if metric != "kid" else 1e-9}


@pytest.mark.parametrize(("golden", "metric", "value"), CASES, ids=IDS)
def test_golden(golden, metric, value, tmp_path):
    flags: list[Any] = ["--metric", metric, "--seed", seed(golden), "--resamples", 0]
    for key, option in options(golden, metric).items():
        flags += ["--metric-option", f"{metric}.{key}={option}"]
    images = tmp_path / "images.npz"
    if metric in ("inception-score", "is-infinity"):
        np.savez(images, logits=golden.logits())
    else:
        dtype = np.float32 if "float32" in golden.kind else np.float64
        reference, fake = golden.features(dtype)
        if metric == "kid":  # torchmetrics takes as many rows of both
            n = min(len(reference), len(fake))
            reference, fake = reference[:n], fake[:n]
        np.savez(images, features=fake)
        np.savez(tmp_path / "reference.npz", features=reference)
        flags += ["--reference", tmp_path / "reference.npz", "--allow-few"]
    result = run("--images", images, *flags)
    (pair,) = result["pairs"]
    assert pair["metrics"][metric]["value"] == pytest.approx(
        value(golden.scores), **tolerance(golden, metric)
    )


def test_every_golden_is_run():
    left = {golden.id for golden in ALL if not re.fullmatch(f"{ELSEWHERE}|{DEFECT}", golden.kind)}
    assert left == {golden.id for golden, _, _ in CASES}


def test_statistics_files_of_pytorch_fid_and_features_of_clean_fid():
    folder = GOLDENS / "distribution"
    (golden,) = [g for g in ALL if g.id == "full_rank/fid_pytorch_fid"]
    images = folder / "features_full_rank.npz"
    with np.load(images) as arrays:
        fake = arrays["fake"]
    for reference in ("stats_pytorch_fid_format_real.npz", "stats_cleanfid_kid_format_real.npz"):
        from t2v_eval import distance

        result = distance(folder / reference, fake, "fid", resamples=0)
        assert result["fid"].value == pytest.approx(golden.scores, rel=1e-6)
