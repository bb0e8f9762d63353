"""Every distance equals what the packages of the field give."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.distribution_goldens import FOLDERS, Golden, goldens

from t2v_eval.stats.distances.diversity import vendi
from t2v_eval.stats.distances.extrapolation import (
    fid_infinity,
    independent_subsets,
    shuffled_subsets,
)
from t2v_eval.stats.distances.frechet import fid
from t2v_eval.stats.distances.inception import inception_score_infinity, inception_scores
from t2v_eval.stats.distances.kernel import (
    cmmd,
    draw_subsets,
    gaussian_kernel,
    kid,
    kid_subsets,
    polynomial_kernel,
)
from t2v_eval.stats.distances.manifold import overlap, realism
from t2v_eval.stats.distances.memorisation import authenticity, mifid
from t2v_eval.stats.distances.sliced import mind

ALL = [golden for folder in FOLDERS for golden in goldens(folder)]
OF_IMAGES = "resize_"  # cases of another test
DEFECT = "vendi_poly"  # of dgm-eval: its kernel is not 1 on the diagonal, so a count exceeds n


def cases(pattern: str) -> pytest.MarkDecorator:
    """Every golden whose kind matches."""
    chosen = [golden for golden in ALL if re.fullmatch(pattern, golden.kind)]
    assert chosen
    USED.update((golden.folder, golden.id) for golden in chosen)
    ids = [golden.id for golden in chosen]
    return pytest.mark.parametrize("golden", chosen, ids=ids)


USED: set[tuple[str, str]] = set()


def near(golden: Golden, value: float, relative: float, absolute: float = 0.0) -> bool:
    return value == pytest.approx(golden.scores, rel=relative, abs=absolute)


@cases("(fid|fd)_(cleanfid|pytorch_fid|torch_fidelity|torchmetrics|dgm_eval|efficient_dgm).*")
def test_fid(golden):
    dtype = np.float32 if "float32" in golden.kind else np.float64
    relative = 1e-6 if golden.folder == "distribution" else 1e-8
    relative = 1e-5 if golden.params.get("set") == "few" else relative
    if "streamed" in golden.kind:
        relative = 1e-4  # of float32
    assert near(golden, fid(*golden.features(dtype)), relative, 1e-9)


@cases("kid_.*_subset.*|kid_torch_fidelity_(poly|rbf.*)")
def test_kid_of_subsets(golden):
    reference, images = golden.features()
    p = golden.params
    size = p.get("max_subset_size", p.get("kid_subset_size"))
    subsets = draw_subsets(
        len(reference),
        len(images),
        size,
        subsets=p.get("num_subsets", p.get("kid_subsets")),
        seed=p.get("numpy_seed", p.get("rng_seed")),
        images_first="cleanfid" in golden.kind,
    )
    sigma = p.get("kid_kernel_rbf_sigma")
    kernel = polynomial_kernel if sigma is None else gaussian_kernel(sigma)
    values = kid_subsets(reference, images, subsets, kernel)
    if isinstance(golden.scores, list):
        assert [values.mean(), values.std()] == pytest.approx(golden.scores, rel=1e-6, abs=1e-6)
    else:
        assert near(golden, values.mean(), 1e-6, 1e-6)


@cases("kd_dgm")
def test_kernel_distance_of_dgm_eval(golden):
    reference, images = golden.features()
    p = golden.params
    subsets = draw_subsets(
        len(reference),
        len(images),
        p["subset_size"],
        subsets=p["n_subsets"],
        seed=p["numpy_seed"],
        images_first=False,
    )
    values = kid_subsets(reference, images, subsets)
    assert values == pytest.approx(golden.scores["subsets"], rel=1e-8)
    assert values.mean() == pytest.approx(golden.scores["mean"], rel=1e-8)
    assert values.std() == pytest.approx(golden.scores["std"], rel=1e-8)


@cases("kid_torchmetrics")
def test_kid_of_torchmetrics(golden):
    """Its subsets are drawn by torch, which no function of arrays does."""
    reference, images = golden.features()
    size = golden.params["subset_size"]
    torch.manual_seed(golden.params["torch_seed"])
    subsets = []
    for _ in range(golden.params["subsets"]):
        rows = [torch.randperm(len(x))[:size].numpy() for x in (reference, images)]
        subsets.append((rows[0], rows[1]))
    values = kid_subsets(reference, images, subsets)
    assert [values.mean(), values.std()] == pytest.approx(golden.scores, rel=1e-4, abs=1e-5)


@cases("kid_unbiased_full_torchmetrics_poly_mmd")
def test_kid_of_all_rows(golden):
    reference, images = golden.features()
    n = min(len(reference), len(images))  # torchmetrics takes as many of both
    assert near(golden, kid(reference[:n], images[:n]), 1e-6, 1e-6)


@cases("cmmd_.*")
def test_cmmd(golden):
    reference, images = golden.features()
    value = cmmd(reference, images, normalise="unnormalised" not in golden.kind)
    # The original divides rows by their lengths in float32, and then works in float32 or float64.
    noise = {"cmmd_cmmd_pytorch": 2e-4, "cmmd_cmmd_pytorch_float64": 1e-7}.get(golden.kind, 1e-12)
    assert near(golden, value, 1e-9, noise)


@cases("prdc_k.*")
def test_precision_recall_density_coverage(golden):
    result = overlap(*golden.features(), k=golden.params["nearest_k"])
    assert result.means() == pytest.approx(golden.scores, rel=1e-12)


@cases("pr_torch_fidelity_k3|prc_torch_fidelity_k2")
def test_precision_and_recall_of_torch_fidelity(golden):
    k = golden.params.get("prc_neighborhood", 3)
    result = overlap(*golden.features(), k=k, closed=True)
    means = result.means()
    ours = {"precision": means["precision"], "recall": means["recall"], "f_score": result.f_score}
    assert ours == pytest.approx(golden.scores, rel=1e-6)


@cases("prdc_realism_dgm")
def test_realism(golden):
    reference, images = golden.features()
    k = golden.params["nearest_k"]
    expected = dict(golden.scores)
    values = np.array(expected.pop("realism"), np.float64)
    assert overlap(reference, images, k=k).means() == pytest.approx(expected, rel=1e-12)
    scores = realism(reference, images, k=k)
    # The original's distance of a copy to its row is rounding, or 0; ours is 0.
    copies = (images[:, None] == reference[None]).all(axis=2).any(axis=1)
    assert np.isinf(scores[np.isinf(values)]).all()
    assert copies[np.isinf(scores)].all()
    plain = np.isfinite(scores) & (scores < 1e4)
    assert plain.sum() > len(scores) / 4
    assert scores[plain] == pytest.approx(values[plain], rel=1e-6)


@cases("authpct")
def test_authpct(golden):
    assert near(golden, 100 * authenticity(*golden.features()).mean(), 1e-6)


@cases("vendi_linear_q.*")
def test_vendi(golden):
    _, images = golden.features()
    relative = 1e-5 if golden.params["set"] == "few" else 1e-8
    assert near(golden, vendi(images, float(golden.params["q"])), relative)


@cases("mifid_torchmetrics")
def test_mifid(golden):
    """torchmetrics averages over the reference; the paper, and ours by default, over the images."""
    reference, images = golden.features()
    threshold = golden.params["cosine_distance_eps"]
    assert near(golden, mifid(reference, images, threshold, over="reference"), 1e-4)


@cases("mind")
def test_mind(golden):
    """The rows that torch-fidelity leaves out and its directions are drawn by torch."""
    reference, images = golden.features()
    n = min(len(reference), len(images))
    generator = torch.Generator().manual_seed(golden.params["rng_seed"])
    equal = [
        x if len(x) == n else x[torch.randperm(len(x), generator=generator)[:n].numpy()]
        for x in (reference, images)
    ]
    count = golden.params["mind_num_projections"]
    directions = torch.randn(count, reference.shape[1], generator=generator).double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert near(golden, mind(*equal, directions), 1e-4)


@cases("fd_infinity_dgm")
def test_fid_infinity_of_dgm_eval(golden):
    reference, images = golden.features()
    subsets = independent_subsets(len(images), golden.params["points"], seed=7)
    value, points = fid_infinity(reference, images, subsets)
    assert points[0].tolist() == golden.params["points"]
    singular = min(golden.params["points"]) <= images.shape[1]
    assert near(golden, value, 1e-5 if singular else 1e-8)


@cases("fid_infinity_original")
def test_fid_infinity_of_its_authors(golden):
    reference, images = golden.features()
    sizes = golden.params["points"]
    subsets = shuffled_subsets(len(images), sizes, seed=golden.params["numpy_seed"])
    assert near(golden, fid_infinity(reference, images, subsets)[0], 1e-8)


@cases("is_splits.*")
def test_inception_score_of_torch_fidelity(golden):
    p = golden.params
    seed = p["rng_seed"] if p["shuffle"] else None
    values = inception_scores(golden.logits(), p["splits"], remainder="spread", seed=seed)
    assert [values.mean(), values.std()] == pytest.approx(golden.scores, rel=1e-8, abs=1e-12)


@cases("is_dgm_.*")
def test_inception_score_of_dgm_eval(golden):
    p = golden.params
    seed = 2020 if p["shuffle"] else None
    values = inception_scores(golden.logits(), p["splits"], seed=seed)
    assert [values.mean(), values.std()] == pytest.approx(golden.scores, rel=1e-8, abs=1e-12)


@cases("is_infinity_original")
def test_inception_score_infinity(golden):
    logits, p = golden.logits(), golden.params
    sizes = [int(n) for n in np.linspace(p["min_fake"], len(logits), p["num_points"])]
    subsets = shuffled_subsets(len(logits), sizes, seed=p["numpy_seed"])
    assert near(golden, inception_score_infinity(logits, subsets)[0], 1e-8)


def test_every_golden_is_met():
    left = {
        (golden.folder, golden.id)
        for golden in ALL
        if not golden.kind.startswith((OF_IMAGES, DEFECT))
    }
    assert left == USED
