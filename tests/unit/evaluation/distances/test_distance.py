"""`distance` and `t2v-eval distance`: what is computed, refused, warned of, and how sure it is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.evaluation.distances.feature_set import FeatureSet, read_features
from t2v_eval.evaluation.distances.metrics import METRICS
from t2v_eval.evaluation.distances.pair import Pair
from t2v_eval.evaluation.distances.parts import read_tags, split
from t2v_eval.stats.distances.frechet import fid, fid_influence, moments
from t2v_eval.stats.distances.kernel import (
    cmmd,
    draw_subsets,
    gaussian_kernel,
    kid,
    kid_subsets,
    polynomial_kernel,
)
from t2v_eval.stats.distances.manifold import overlap
from t2v_eval.stats.distances.memorisation import memorisation_distances

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(300, 6))
IMAGES = RNG.normal(size=(200, 6)) + 0.4


@pytest.fixture
def files(tmp_path):
    """Write arrays to an .npz file, and return its path."""

    def write(name: str, **arrays: object) -> str:
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def call(*arguments: object, code: int = 0):
    done = CliRunner().invoke(app, ["distance", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def test_json_has_the_documented_keys(files):
    reference, images = files("a", features=REFERENCE), files("b", features=IMAGES)
    flags = ("--metric", "fid", "--metric", "kid", "--resamples", 50, "--json")
    result = json.loads(call("--reference", reference, "--images", images, *flags).stdout)
    assert list(result) == ["version", "features", "pairs"]
    assert result["version"] == 1
    assert result["features"] == {"dimensions": 6}
    (pair,) = result["pairs"]
    assert list(pair) == ["reference", "images", "counts", "metrics", "warnings", "reasons"]
    assert (pair["reference"], pair["images"]) == (reference, images)
    assert pair["counts"] == {"reference": 300, "images": 200}
    assert list(pair["metrics"]) == ["fid", "fid-infinity", "kid"]
    assert list(pair["metrics"]["kid"]) == ["value", "low", "high"]
    assert pair["metrics"]["fid"]["value"] == pytest.approx(fid(REFERENCE, IMAGES))
    assert pair["reasons"] == {}
    assert any("too high for few images" in line for line in pair["warnings"])


def test_table_names_metrics_images_and_cautions(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, features in {"a": REFERENCE, "b": IMAGES, "c": IMAGES[:150] * 2}.items():
        files(name, features=features)
    flags = ("--reference", "a.npz", "--images", "b.npz", "--images", "c.npz")
    done = call(*flags, "--resamples", 20)
    table = " ".join(done.stdout.split())
    for text in ("a.npz (n = 300)", "b.npz", "c.npz", "fid-infinity", "Frechet distance", "150"):
        assert text in table
    assert "unequal numbers of images (150 and 200)" in done.stderr


def test_every_metric_is_computed():
    logits = RNG.normal(size=(200, 5))
    images = FeatureSet("mine", IMAGES, logits)
    result = t2v_eval.distance(REFERENCE, images, list(METRICS), resamples=40)
    for name, value in result.pairs[0].metrics.items():
        assert math.isfinite(value.value), name
        assert value.low <= value.value <= value.high, name
    assert result["cmmd"].value == pytest.approx(cmmd(REFERENCE, IMAGES))


def test_two_halves_of_one_set_have_a_kid_around_zero():
    rows = np.random.default_rng(1).normal(size=(400, 16))
    low, high = t2v_eval.distance(rows[::2], rows[1::2], "kid", resamples=300)["kid"][1:]
    assert low < 0 < high
    moved = t2v_eval.distance(rows[::2], rows[1::2] + 0.2, "kid", resamples=300)["kid"]
    assert moved.low > 0


WIDTHS: dict[str, dict[str, int]] = {
    "fid": {},
    "fid-infinity": {"points": 5},
    "kid": {},
    "kid-subsets": {"subsets": 10, "size": 50},
    "cmmd": {},
    "mifid": {},
    "mind": {"projections": 20},
    "vendi": {},
    "precision": {},
    "coverage": {},
}


@pytest.mark.parametrize("metric", WIDTHS)
def test_intervals_are_as_wide_as_samples_differ(metric):
    """The spread of the metric over new samples of the same two distributions."""
    rng = np.random.default_rng(2)
    options = {f"{metric}.{name}": value for name, value in WIDTHS[metric].items()}
    values, widths = [], []
    for _ in range(60):
        x, y = rng.normal(size=(150, 4)), 1.3 * rng.normal(size=(120, 4)) + 0.5
        resamples = 0 if len(widths) > 4 else 400
        result = t2v_eval.distance(x, y, metric, metric_options=options, resamples=resamples)
        values.append(result[metric].value)
        if not math.isnan(result[metric].low):
            widths.append(result[metric].high - result[metric].low)
    # Of precision and coverage, the other set is held fixed, so they are narrower.
    ratio = np.mean(widths) / (2 * 1.96 * np.std(values))
    assert (0.4 if metric in ("precision", "coverage") else 0.75) < ratio < 1.35


def test_seeds_repeat():
    options = {"metrics": ["kid", "kid-subsets", "mind", "fid-infinity"], "resamples": 20}
    result = t2v_eval.distance(REFERENCE, IMAGES, seed=3, **options).to_json()
    assert result == t2v_eval.distance(REFERENCE, IMAGES, seed=3, **options).to_json()
    assert result != t2v_eval.distance(REFERENCE, IMAGES, seed=4, **options).to_json()


def test_float16_and_float32_are_read(files):
    for dtype in (np.float16, np.float32):
        path = files(dtype.__name__, features=IMAGES.astype(dtype))
        expected = kid(REFERENCE, IMAGES.astype(dtype).astype(np.float64))
        result = t2v_eval.distance(REFERENCE, path, "kid", resamples=0)
        assert result["kid"].value == pytest.approx(expected, rel=1e-9)


def test_by_folder(files):
    names = [f"{'cats' if row % 2 else 'dogs/big'}/{row}.png" for row in range(200)]
    images = files("b", features=IMAGES, names=np.array(names))
    result = t2v_eval.distance(REFERENCE, images, "kid", by="folder", resamples=0)
    assert [pair.images for pair in result.pairs] == [f"{images}/cats", f"{images}/dogs/big"]
    assert result.pairs[0].metrics["kid"].value == pytest.approx(kid(REFERENCE, IMAGES[1::2]))
    assert "reference has no such sub-folders" in result.pairs[0].warnings[-1]
    names[0] = "birds/0.png"
    images = files("c", features=IMAGES, names=np.array(names))
    result = t2v_eval.distance(REFERENCE, images, "kid", by="folder", resamples=0)
    assert len(result.pairs) == 2
    assert f"left out: {images}/birds has 1 image, which is no set" in result.pairs[0].warnings
    with pytest.raises(InputError, match="`by='folder'`"):
        t2v_eval.distance(REFERENCE, IMAGES, "kid", by="folder")


def test_by_tag_compares_with_the_same_tag_or_with_all(files, tmp_path, monkeypatch):
    numbers = [f"{row}.png" for row in range(300)]
    reference = files("photos", features=REFERENCE, names=np.array(numbers))
    images = files("turbo", features=IMAGES, names=np.array([f"t/{n}" for n in numbers[:200]]))
    rows = [f"{n},cat" for n in numbers[:100]] + [f"t/{n},cat" for n in numbers[:50]]
    rows += [f"t/{n},dog; cat" for n in numbers[50:60]] + [f"t/{numbers[60]},bird"]
    table = tmp_path / "tags.csv"
    table.write_text("\n".join(["image,tag", *rows]))
    flags = ("--by", "tag", "--tags", table, "--metric", "kid", "--resamples", 0)
    done = call("--reference", reference, "--images", images, *flags, "--json")
    cats, dogs = json.loads(done.stdout)["pairs"]
    assert (cats["reference"], cats["images"]) == (f"{reference}, cat", f"{images}, cat")
    assert cats["counts"] == {"reference": 100, "images": 60}
    assert cats["metrics"]["kid"]["value"] == pytest.approx(kid(REFERENCE[:100], IMAGES[:60]))
    assert dogs["reference"] == reference
    assert dogs["metrics"]["kid"]["value"] == pytest.approx(kid(REFERENCE, IMAGES[50:60]))
    warnings = "\n".join(dogs["warnings"])
    assert f"turbo.npz, dog: compared with all of {reference}" in warnings
    assert "turbo.npz: 139 images have no tag" in warnings
    assert "turbo.npz, bird has 1 image" in warnings
    monkeypatch.chdir(tmp_path)
    printed = call("--reference", "photos.npz", "--images", "turbo.npz", *flags).stdout
    assert "turbo.npz, dog" in printed and "photos.npz, cat" in printed


def test_tags_of_a_path_count_before_those_of_a_name(tmp_path):
    """A table beside two folders may name an image of one as it names a file beside itself."""
    table = tmp_path / "tags.csv"
    table.write_text("image,tag\na.png,dog\nturbo/a.png,cat\nb.png,bird\n")
    images = FeatureSet("mine", IMAGES[:2], names=("a.png", "b.png"), folder=tmp_path / "turbo")
    parts = split(None, images, "tag", read_tags(table))
    assert [(part.images.name, part.images.names) for part in parts] == [
        ("mine, bird", ("b.png",)),
        ("mine, cat", ("a.png",)),
    ]


def test_tags_that_fit_no_image_are_named(files, tmp_path):
    images = files("turbo", features=IMAGES[:3], names=np.array(["a.png", "b.png", "c.png"]))
    table = tmp_path / "tags.csv"
    for content, message in (
        ("image,tag\nx.png,cat\n", "none of the 3 images.*'a.png'"),
        ("image,kind\nx.png,cat\n", "no column 'tag'"),
        ("image,tag\nx.png,\n", "'tag' is empty"),
    ):
        table.write_text(content)
        with pytest.raises(InputError, match=message):
            t2v_eval.distance(REFERENCE, images, "kid", by="tag", tags=table)
    with pytest.raises(InputError, match="by='tag'"):
        t2v_eval.distance(REFERENCE, images, "kid", tags=table)


def test_parts_of_the_reference():
    """Which have two or more images and are parts of the images, too."""
    reference = FeatureSet(
        "photos",
        REFERENCE[:7],
        names=("cats/1.png", "cats/2.png", "dogs/1.png", *(f"birds/{k}.png" for k in range(4))),
    )
    images = FeatureSet("turbo", IMAGES[:4], names=("cats/1", "cats/2", "dogs/1", "dogs/2"))
    cats, dogs = split(reference, images, "folder")
    assert (cats.reference.name, cats.reference.count, cats.notes) == ("photos/cats", 2, ())
    assert dogs.reference is reference
    assert "turbo/dogs: compared with all of photos" in dogs.notes[0]
    images = FeatureSet("turbo", IMAGES[:2], names=("ants/1", "ants/2"))
    (ants,) = split(reference, images, "folder")
    assert ants.notes == ("photos has no such sub-folders; each is compared with all of it",)


def test_files_outside_of_the_folder_are_not_shown(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "secret.png"):
        (tmp_path / name).write_bytes(b"")
    names = ("a.png", "../secret.png", str(tmp_path / "secret.png"), "gone.png")
    images = FeatureSet("mine", IMAGES[:4], names=names, folder=tmp_path / "in")
    assert [images.file_of(row) for row in range(4)] == [
        tmp_path / "in" / "a.png",
        None,
        None,
        None,
    ]


def test_intervals_to_the_first_order_are_around_the_value():
    metrics = ["fid", "fid-infinity", "vendi", "mind", "is-infinity"]
    images = FeatureSet("mine", IMAGES, logits=IMAGES)
    for name, (value, low, high) in (
        t2v_eval.distance(REFERENCE, images, metrics, resamples=500).pairs[0].metrics.items()
    ):
        assert abs((low + high) / 2 - value) < 0.15 * (high - low), name


def test_influences_of_a_pair_are_those_of_its_rows():
    pair = Pair(FeatureSet("a", REFERENCE), FeatureSet("b", IMAGES), resamples=3)
    for of_pair, expected in zip(
        pair.fid_influences, fid_influence(REFERENCE, IMAGES), strict=True
    ):
        assert of_pair == pytest.approx(expected)
    counts, of_reference = pair.reference_counts.astype(float), pair.fid_influences[0]
    assert pair.fid_shifts_of_reference == pytest.approx(of_reference @ counts / 300)


def test_what_a_pair_shares_is_kept_for_each_option():
    grid = RNG.integers(0, 3, size=(2, 60, 3)).astype(float)  # distances that equal radii
    pair = Pair(FeatureSet("a", grid[0]), FeatureSet("b", grid[1]), resamples=1)
    for sigma, kernel in ((None, polynomial_kernel), (2.0, gaussian_kernel(2.0))):
        assert pair.kids(sigma)[0] == pytest.approx(kid(*grid, kernel))
    for k, closed in ((1, False), (1, True), (2, True)):
        expected = overlap(*grid, k, closed=closed).means()
        assert pair.overlap(k, closed).means() == expected
    assert pair.overlap(1, True).means() != pair.overlap(1, False).means()


def test_subsets_of_kid_have_a_thousand_images():
    x, y = np.random.default_rng(6).normal(size=(2, 1100, 2))
    options = {"kid-subsets.subsets": 2}
    result = t2v_eval.distance(x, y, "kid-subsets", metric_options=options, resamples=0)
    expected = kid_subsets(x, y, draw_subsets(1100, 1100, 1000, subsets=2)).mean()
    assert result["kid-subsets"].value == pytest.approx(expected, rel=1e-9)


def test_intervals_of_few_subsets_hold_the_chance_of_the_draw():
    options = {"kid-subsets.subsets": 3, "kid-subsets.size": 10}
    result = t2v_eval.distance(
        REFERENCE, IMAGES, ["kid", "kid-subsets"], metric_options=options, resamples=200
    )
    widths = {name: value.high - value.low for name, value in result.pairs[0].metrics.items()}
    assert widths["kid-subsets"] > 1.5 * widths["kid"]


def test_resamples_of_mifid_may_pass_its_threshold():
    distances = memorisation_distances(REFERENCE, IMAGES)
    options = {"mifid.threshold": 1.0001 * float(distances.mean())}
    value, low, high = t2v_eval.distance(
        REFERENCE, IMAGES, "mifid", metric_options=options, resamples=200
    )["mifid"]
    assert low < 2 * fid(REFERENCE, IMAGES) < value / 2 < high


def test_a_metric_that_fails_loses_no_other():
    options = {"precision.k": 250}
    result = t2v_eval.distance(
        REFERENCE, IMAGES, ["kid", "precision"], metric_options=options, resamples=0
    )
    assert result["kid"].value == pytest.approx(kid(REFERENCE, IMAGES))
    assert math.isnan(result["precision"].value)
    assert "`k=250`" in result.pairs[0].reasons["precision"]


def test_missing_intervals_have_a_reason():
    few = t2v_eval.distance(REFERENCE, IMAGES[:6], "fid", allow_few=True)
    assert few.pairs[0].reasons["fid"].endswith("images has no more images than features")
    none = t2v_eval.distance(REFERENCE, IMAGES, "kid", resamples=0)
    assert none.pairs[0].reasons["kid"] == "no interval: `resamples=0`"


@pytest.mark.parametrize("reference", [REFERENCE, np.ones((50, 6))])
def test_images_that_are_all_alike_have_a_fid(reference):
    """A generator that makes one image; FID is then |m1 - m2|^2 + tr S."""
    mean, covariance = moments(reference)
    for value in (0.1, 300.0):
        images = np.full((40, 6), value)
        result = t2v_eval.distance(reference, images, ["fid", "mifid"], resamples=20)
        expected = ((mean - value) ** 2).sum() + np.trace(covariance)
        assert result["fid"].value == pytest.approx(expected, rel=1e-6)
        for name, (_, low, _) in result.pairs[0].metrics.items():
            assert math.isnan(low) == (name in result.pairs[0].reasons)
    black = t2v_eval.distance(reference, 0 * images, ["fid", "mifid"], resamples=0).pairs[0]
    assert "images: all features are 0" in black.reasons["mifid"]


def test_intervals_of_equal_sets_enclose_their_value():
    """Where values and resamples differ by rounding alone."""
    for rows in (REFERENCE, IMAGES[:50].astype(np.float32), np.repeat(IMAGES[:20], 2, axis=0)):
        result = t2v_eval.distance(rows, rows.copy(), ["fid", "cmmd", "mind"], resamples=20)
        for name, (value, low, high) in result.pairs[0].metrics.items():
            assert 0 <= low <= value <= high or name == "fid-infinity", name


def test_statistics_of_the_reference_give_an_interval_over_the_images(files):
    mean, covariance = moments(REFERENCE)
    reference = files("stats", mu=mean, sigma=covariance)
    of_moments = t2v_eval.distance(reference, IMAGES, "fid")["fid"]
    of_rows = t2v_eval.distance(REFERENCE, IMAGES, "fid")["fid"]
    assert of_moments.value == pytest.approx(of_rows.value)
    assert 0.4 < (of_moments.high - of_moments.low) / (of_rows.high - of_rows.low) < 1


def test_details_are_metrics_of_fewer_images_and_single_images(files):
    names = np.array([f"{row}.png" for row in range(200)])
    images = files("b", features=IMAGES, names=names)
    metrics = ["fid", "recall", "kid", "cmmd"]
    result = t2v_eval.distance(REFERENCE, images, metrics, resamples=0, details=True)
    details = result.pairs[0].details
    assert list(details.curves) == metrics
    for name in metrics:
        assert details.curves[name].values[-1] == pytest.approx(result[name].value)
    curve = details.curves["fid"]
    assert (curve.counts[0], curve.counts[-1]) == (20, 200)
    assert curve.values[0] > curve.values[-1]
    squares = cdist(IMAGES, REFERENCE)
    order = squares.min(axis=1).argsort()
    assert [example.image for example in details.nearest] == [f"{n}.png" for n in order[:8]]
    assert details.farthest[0].image == f"{order[-1]}.png"
    assert details.farthest[0].neighbour == f"row {squares[order[-1]].argmin()} (from 0)"
    assert details.farthest[0].distance == pytest.approx(squares.min(axis=1).max())


def test_images_alone_need_no_reference(files):
    logits = files("b", logits=RNG.normal(size=(60, 5)))
    flags = ("--metric", "inception-score", "--resamples", 0, "--json")
    (pair,) = json.loads(call("--images", logits, *flags).stdout)["pairs"]
    assert pair["reference"] is None
    assert pair["counts"] == {"reference": None, "images": 60}


def test_few_images_are_refused_unless_asked_for(files):
    few = files("few", features=IMAGES[:6])
    reference = files("a", features=REFERENCE)
    done = call("--reference", reference, "--images", few, code=2)
    assert "n = 6" in done.output and "--allow-few" in done.output
    done = call("--reference", reference, "--images", few, "--allow-few", "--json")
    (pair,) = json.loads(done.stdout)["pairs"]
    assert list(pair["metrics"]) == ["fid"]
    assert pair["metrics"]["fid"]["low"] is None
    assert any("covariance is singular" in line for line in pair["warnings"])
    t2v_eval.distance(REFERENCE, IMAGES[:6], "kid", resamples=0)


def test_cautions_of_files(files):
    def extractor(**more: object) -> np.ndarray:
        return np.array(json.dumps({"network": "inception", **more}))

    reference = files("a", features=REFERENCE, extractor=extractor(resize="clean"))
    damaged = {"unreadable": {"a.png": "a.png: empty"}, "grayscale": 3, "sizes": [[9, 9], [8, 8]]}
    images = files("b", features=IMAGES, extractor=extractor(resize="legacy", files=damaged))
    result = t2v_eval.distance(reference, images, "kid", resamples=0)
    warnings = "\n".join(result.pairs[0].warnings)
    for text in (
        "'clean'",
        "'legacy'",
        "1 image left out: a.png: empty",
        "3 images in gray",
        "different",
    ):
        assert text in warnings
    assert result.features["network"] == "inception"
    other = files("c", features=IMAGES, extractor=np.array('{"network": "dino"}'))
    with pytest.raises(InputError, match="network 'inception'.*'dino'"):
        t2v_eval.distance(reference, other, "kid")


def test_unequal_numbers_and_resolutions_of_both_sets_are_warned_of():
    def warnings(metric: str, n: int, *sizes: list[list[int]]) -> str:
        sides = [
            FeatureSet(name, rows, extractor={"files": {"sizes": of_side}} if of_side else {})
            for name, rows, of_side in zip(
                "ab", (REFERENCE[:200], IMAGES[:n]), sizes or ([], []), strict=True
            )
        ]
        return "\n".join(t2v_eval.distance(*sides, metric, resamples=0).pairs[0].warnings)

    assert "b: 150 images, and 200 of a; precision depends on both" in warnings("precision", 150)
    for metric, n in (("precision", 200), ("kid", 150), ("vendi", 150)):
        assert "depends on both" not in warnings(metric, n)
    assert "of 64 x 32 pixels and b of 48 x 48" in warnings("kid", 200, [[64, 32]], [[48, 48]])
    assert warnings("kid", 200, [[64, 32]], [[64, 32]]) == ""
    assert (
        warnings("kid", 200, [[64, 32]], [[9, 9], [8, 8]]) == "b: images of different resolutions"
    )


def test_copies_are_noticed():
    images = np.concatenate([REFERENCE[:7], IMAGES, IMAGES[:3]])
    warnings = "\n".join(t2v_eval.distance(REFERENCE, images, "kid", resamples=0).pairs[0].warnings)
    assert "rows that reference holds, too: 7" in warnings
    assert "3 of 210 rows repeat" in warnings


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds nothing"),
        ({"other": np.ones(3)}, "holds 'other'"),
        ({"features": np.array([{}], dtype=object)}, "cannot be read"),
        ({"features": np.array([["a"]])}, "matrix of numbers"),
        ({"features": np.ones(4)}, r"shape \(4,\)"),
        ({"features": np.array([[1.0], [np.inf]])}, "row 1 "),
        ({"features": np.ones((3, 2)), "names": np.array(["a"])}, "different lengths"),
        ({"features": np.ones((3, 2)), "extractor": np.array("[]")}, "JSON object"),
        ({"mu": np.ones(3)}, "`sigma` None"),
        ({"mu": np.ones(3), "sigma": np.ones((2, 2))}, "d x d"),
        ({"mu": np.ones(2), "sigma": np.array([[1.0, 5.0], [0.0, 1.0]])}, "not symmetric"),
        ({"mu": np.ones(2), "sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "eigenvalue below 0"),
    ],
)
def test_files_that_cannot_be_used(arrays, message, files):
    with pytest.raises(InputError, match=message):
        read_features(files("x", **arrays))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", None])
def test_files_that_are_no_archives(content, tmp_path):
    path = tmp_path / "x.npz"
    if content is None:
        np.savez(path, features=IMAGES)
        content = path.read_bytes()[:900]
    path.write_bytes(content)
    with pytest.raises(InputError, match="no complete"):
        read_features(path)
    np.save(tmp_path / "x.npy", IMAGES)
    torch.save({"features": torch.ones(3, 2)}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt is a file of PyTorch"):
        read_features(tmp_path / "x.pt")
    for other in ("x.npy", "missing.npz", "."):
        with pytest.raises(InputError):
            read_features(tmp_path / other)


def test_damaged_members_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, features=IMAGES)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_features(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "kid", "images": FeatureSet("x", logits=IMAGES)}, "x holds logits alone"),
        ({"metrics": "inception-score"}, "holds no logits"),
        ({"metrics": "kid", "reference": None}, "`reference=`"),
        ({"metrics": []}, "`metrics="),
        ({"images": []}, "`images="),
        ({"images": np.ones((9, 4))}, "reference has 6 features"),
        ({"by": "tag"}, "`by='tag'`"),
        ({"by": "label"}, "`by='label'`"),
        ({"resamples": -1}, "`resamples=-1`"),
        ({"seed": 0.5}, "`seed=0.5`"),
        ({"metric_options": {"precision.k": 3}}, "precision is not computed"),
        ({"metrics": "precision", "metric_options": {"precision.q": 3}}, "takes k"),
        ({"metrics": "precision", "metric_options": {"precision.k": "x"}}, "whole number"),
        ({"metrics": "precision", "metric_options": {"precision.k": 200}}, "precision: `k=200`"),
        ({"metrics": "cmmd", "metric_options": {"cmmd.sigma": -1}}, "above 0"),
        (
            {"metrics": "kid-subsets", "metric_options": {"kid-subsets.draws": "x"}},
            "'clean-fid' or",
        ),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(InputError, match=message):
        t2v_eval.distance(**{"reference": REFERENCE, "images": IMAGES, **arguments})


def test_unknown_metrics_are_named():
    with pytest.raises(UnknownNameError, match="'fid'"):
        t2v_eval.distance(REFERENCE, IMAGES, "fidd")


def test_options_of_the_command_line_name_flags(files):
    reference, images = files("a", features=REFERENCE), files("b", features=IMAGES)
    common = ("--reference", reference, "--images", images)
    for flags, text in (
        (("--metric-option", "k=3"), "METRIC.OPTION=VALUE"),
        (("--metric-option", "kid.k=3"), "--metric-option kid.k=3"),
        (("--metric-option", "fid.k=3"), "fid takes no options"),
        (("--resize", "legacy"), "--resize legacy: no set is a folder"),
        (("--checkpoint", "weights.pth"), "--checkpoint weights.pth: no set is a folder"),
    ):
        assert text in call(*common, *flags, code=2).output


def test_few_images_of_the_reference_alone_are_warned_of():
    many = np.random.default_rng(3).normal(size=(10_000, 2))
    result = t2v_eval.distance(many[:500], many, "fid", resamples=0)
    (line,) = (line for line in result.pairs[0].warnings if "too high for few images" in line)
    assert line.startswith("reference: 500 images")


def test_ten_thousand_images_are_not_few():
    many = np.random.default_rng(4).normal(size=(20_000, 2))
    for count, metrics in ((10_000, ["fid"]), (9_999, ["fid", "fid-infinity"])):
        (pair,) = t2v_eval.distance(many[:10_000], many[-count:], "fid", resamples=0).pairs
        assert list(pair.metrics) == metrics
        few = [line for line in pair.warnings if "too high for few images" in line]
        assert len(few) == len(metrics) - 1
