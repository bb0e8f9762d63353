"""Distances between sets equal scipy, brute force and theory, on every path."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from t2v_eval.errors import InputError
from t2v_eval.stats.distances import features as feature_module
from t2v_eval.stats.distances.diversity import vendi, vendi_influence
from t2v_eval.stats.distances.extrapolation import (
    extrapolate,
    fid_infinity,
    independent_subsets,
    row_weights,
)
from t2v_eval.stats.distances.frechet import (
    Moments,
    fid,
    fid_bias,
    fid_influence,
    frechet_distance,
    moments,
)
from t2v_eval.stats.distances.inception import inception_score_influence, inception_scores
from t2v_eval.stats.distances.kernel import (
    cmmd,
    discrepancy,
    draw_subsets,
    gaussian_kernel,
    kid,
    kid_subsets,
    polynomial_kernel,
)
from t2v_eval.stats.distances.manifold import overlap
from t2v_eval.stats.distances.memorisation import authenticity, memorisation_distances
from t2v_eval.stats.distances.neighbours import count_inside, nearest
from t2v_eval.stats.distances.resampling import resample_counts
from t2v_eval.stats.distances.sliced import draw_directions, mind, mind_influence


def normal(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ (np.eye(d) + scale * rng.normal(size=(d, d)) / d)


def sqrtm_fid(x: np.ndarray, y: np.ndarray) -> float:
    """FID as pytorch-fid computes it."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(axis=0) - y.mean(axis=0)
    return gap @ gap + np.trace(s) + np.trace(t) - 2 * np.trace(linalg.sqrtm(s @ t).real)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, so that small sets have many."""
    monkeypatch.setattr(feature_module.blocks, "__defaults__", (None, 7))


@pytest.mark.parametrize(("n", "m"), [(90, 70), (20, 70), (90, 20), (12, 15), (16, 17)])
def test_fid_is_that_of_sqrtm_for_any_number_of_rows(n, m, small_blocks):
    x, y = normal(n, 16, 0), normal(m, 16, 1) + 0.3
    assert fid(x, y) == pytest.approx(sqrtm_fid(x, y), rel=1e-6)
    assert fid(y, x) == pytest.approx(fid(x, y), rel=1e-9)
    assert fid(moments(x), y) == pytest.approx(fid(x, y), rel=1e-6)
    assert fid(x, moments(y)) == pytest.approx(fid(x, y), rel=1e-6)


def test_fid_of_features_that_never_vary():
    x = np.concatenate([normal(40, 6, 0), np.zeros((40, 3))], axis=1)
    y = np.concatenate([normal(50, 6, 1), np.zeros((50, 3))], axis=1)
    assert fid(x, y) == pytest.approx(fid(x[:, :6], y[:, :6]), rel=1e-7)
    assert fid(np.ones((9, 2)), np.zeros((9, 2))) == pytest.approx(2)


def test_frechet_distance_of_singular_covariances():
    """As files of statistics of few images hold them; products have eigenvalues below 0."""
    x, y = normal(8, 16, 0), normal(11, 16, 1)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(fid(x, y), rel=1e-6)


def test_fid_of_float32_far_from_zero():
    x, y = normal(200, 8, 0), normal(300, 8, 1)
    far = [(part + 1000).astype(np.float32) for part in (x, y)]
    assert fid(*far) == pytest.approx(fid(*(part.astype(np.float64) for part in far)), rel=1e-9)


@pytest.mark.parametrize("n", [100, 1000])
def test_bias_of_fid_is_upward_and_as_predicted(n):
    """Two samples of one normal distribution: the true distance is 0."""
    rng, d = np.random.default_rng(0), 64
    values = [fid(rng.normal(size=(n, d)), rng.normal(size=(n, d))) for _ in range(20)]
    predicted = fid_bias(np.eye(d), n, n)
    assert predicted == pytest.approx((2 * d + d * (d + 1) / 2) / n)
    assert np.mean(values) == pytest.approx(predicted, rel=0.05)


def test_bias_of_fid_under_any_covariance_and_unequal_numbers():
    rng, d = np.random.default_rng(1), 12
    mixing = np.diag(np.geomspace(1, 0.1, d))
    values = [
        fid(rng.normal(size=(500, d)) @ mixing, rng.normal(size=(800, d)) @ mixing)
        for _ in range(400)
    ]
    assert np.mean(values) == pytest.approx(fid_bias(mixing @ mixing, 500, 800), rel=0.05)


def test_fid_infinity_removes_bias():
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(20_000, 16))
    images = rng.normal(size=(1000, 16)) * 1.1
    truth = 16 * 0.1**2
    value, points = fid_infinity(reference, images)
    assert abs(value - truth) < abs(points[1, -1] - truth) / 3
    assert (np.diff(points[0]) > 0).all()


def test_influence_on_fid_is_its_derivative():
    x, y = normal(60, 5, 3), normal(80, 5, 4, 2.0) + 0.5
    of_x, of_y = fid_influence(x, y)

    def weighted(side: np.ndarray, row: int, step: float) -> Moments:
        weights = np.ones(len(side))
        weights[row] += step
        weights /= weights.sum()
        mean = weights @ side
        scale = len(side) / (len(side) - 1)
        return Moments(mean, scale * ((side - mean).T * weights) @ (side - mean))

    step = 1e-4
    for row in range(4):
        up, down = (frechet_distance(weighted(x, row, s), moments(y)) for s in (step, -step))
        assert (up - down) / (2 * step) == pytest.approx(of_x[row] / len(x), rel=1e-3, abs=1e-4)
        up, down = (frechet_distance(moments(x), weighted(y, row, s)) for s in (step, -step))
        assert (up - down) / (2 * step) == pytest.approx(of_y[row] / len(y), rel=1e-3, abs=1e-4)


def test_influence_on_fid_of_known_moments_is_that_of_rows():
    x, y = normal(60, 5, 3), normal(80, 5, 4, 2.0) + 0.5
    of_reference, of_images = fid_influence(moments(x), y)
    assert len(of_reference) == 0
    assert of_images == pytest.approx(fid_influence(x, y)[1])


DIRECTIONS = draw_directions(4, 20)


@pytest.mark.parametrize(
    ("statistic", "influence"),
    [
        *(
            (lambda x, q=q: vendi(x, q), lambda x, q=q: vendi_influence(x, q))
            for q in (0.5, 1.0, 2.0, np.inf)
        ),
        (lambda x: inception_scores(x, 1)[0], inception_score_influence),
        *(
            (
                lambda x, n=n: mind(x, normal(n, 4, 21), DIRECTIONS),
                lambda x, n=n: mind_influence(x, normal(n, 4, 21), DIRECTIONS)[0],
            )
            for n in (9, 12, 31)
        ),
        (
            lambda x: mind(normal(15, 4, 21), x, DIRECTIONS),
            lambda x: mind_influence(normal(15, 4, 21), x, DIRECTIONS)[1],
        ),
    ],
)
def test_influence_is_the_change_by_a_copy_of_a_row_more_or_less(statistic, influence):
    x, copies = normal(12, 4, 20), 400
    many = np.tile(x, (copies, 1))
    expected = [
        (statistic(np.concatenate([many, x[[row]]])) - statistic(np.delete(many, row, axis=0)))
        * len(many)
        / 2
        for row in range(4)
    ]
    result = influence(x)
    assert result.mean() == pytest.approx(0, abs=1e-9)
    assert result[:4] == pytest.approx(expected, rel=0.01, abs=0.02 * np.abs(result).max())


def test_influence_on_vendi_of_fewer_rows_than_features():
    x = normal(6, 12, 22)
    padded = np.concatenate([x, x])  # more rows than before, of the same distribution
    assert vendi_influence(padded)[:6] == pytest.approx(vendi_influence(x), rel=1e-6)
    assert vendi_influence(np.tile(x, (3, 1)))[:6] == pytest.approx(vendi_influence(x), rel=1e-6)


def test_value_of_a_line_is_the_weighted_mean_of_rows():
    """For a mean of rows, which is its own influence."""
    values = np.random.default_rng(5).normal(size=50)
    subsets = list(independent_subsets(50, [5, 20, 35, 50]))
    line, _ = extrapolate(lambda rows: float(values[rows].mean()), subsets)
    weights = row_weights(50, subsets)
    assert weights @ values == pytest.approx(line)
    assert weights.sum() == pytest.approx(1)


def mmd(x: np.ndarray, y: np.ndarray, kernel, u: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """Unbiased and biased MMD^2 of weighted rows, pair by pair."""
    k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)
    biased = u @ k_xx @ u / u.sum() ** 2 + v @ k_yy @ v / v.sum() ** 2
    across = 2 * (u @ k_xy @ v) / (u.sum() * v.sum())
    unbiased = 0.0
    for k, w in ((k_xx, u), (k_yy, v)):
        pairs = [(i, j) for i in range(len(w)) for j in range(len(w)) if i != j]
        total = sum(w[i] * w[j] for i, j in pairs)
        unbiased += sum(w[i] * w[j] * k[i, j] for i, j in pairs) / total
    return unbiased - across, biased - across


@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel(2.0)])
def test_discrepancy_in_blocks_is_that_of_all_pairs(kernel, small_blocks):
    x, y = normal(23, 4, 5), normal(17, 4, 6) + 1
    rng = np.random.default_rng(7)
    u, v = rng.integers(0, 4, (23, 3)).astype(float), rng.integers(0, 4, (17, 3)).astype(float)
    result = discrepancy(x, y, kernel, (u, v))
    for b in range(3):
        expected = mmd(x, y, kernel, u[:, b], v[:, b])
        assert (result.unbiased[b], result.biased[b]) == pytest.approx(expected, rel=1e-9)
    one = mmd(x, y, kernel, np.ones(23), np.ones(17))
    assert discrepancy(x, y, kernel).unbiased == pytest.approx(one[0], rel=1e-9)


def test_kid_of_all_rows_is_the_mean_of_its_subsets():
    x, y = normal(60, 6, 8), normal(50, 6, 9) + 0.5
    values = kid_subsets(x, y, draw_subsets(60, 50, 25, subsets=400))
    error = values.std() / np.sqrt(len(values))
    assert kid(x, y) == pytest.approx(values.mean(), abs=4 * error)


def test_cmmd_ignores_lengths_of_rows():
    x, y = normal(30, 6, 10), normal(40, 6, 11)
    assert cmmd(x, y) == pytest.approx(cmmd(3 * x, 0.1 * y), rel=1e-9)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_neighbours_and_balls_are_those_of_all_pairs(offset, small_blocks):
    """Also where features are far from 0, and rows are repeated."""
    x = np.round(normal(40, 3, 12), 1) + offset
    y = np.concatenate([np.round(normal(25, 3, 13), 1) + offset, x[:10]])
    k = 4
    own = cdist(x, x)
    np.fill_diagonal(own, np.inf)
    assert nearest(x, x, k).squares == pytest.approx(np.sort(own, axis=1)[:, :k] ** 2, abs=1e-6)
    radii = nearest(x, x, k).squares[:, -1]
    squares = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    others = nearest(y, y, k).squares[:, -1]
    for closed in (False, True):
        of_x, of_y = count_inside(x, radii, y, others, closed=closed)
        inside = squares <= radii[:, None] if closed else squares < radii[:, None]
        assert of_x.balls.tolist() == inside.sum(axis=0).tolist()
        assert of_x.points.tolist() == inside.sum(axis=1).tolist()
        inside = squares <= others if closed else squares < others
        assert of_y.balls.tolist() == inside.sum(axis=1).tolist()
        assert of_y.points.tolist() == inside.sum(axis=0).tolist()


def test_ties_do_not_depend_on_blocks(monkeypatch):
    """Distances that equal a radius are neither rounded nor ordered by blocks."""
    rng = np.random.default_rng(14)
    x = rng.normal(size=(120, 40)).astype(np.float32)
    y = x[rng.permutation(120)]
    results = []
    for rows in (1024, 7, 50):
        monkeypatch.setattr(feature_module.blocks, "__defaults__", (None, rows))
        results.append(overlap(x, y, k=3).means())
    assert results[0] == results[1] == results[2]
    assert results[0] == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}


def test_no_matrix_of_all_pairs_is_held():
    """At 50,000 rows it would take 20 GB."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(3000, 8)).astype(np.float32) for _ in range(2))
    all_pairs = 8 * len(x) * len(y)
    for metric in (overlap, kid, authenticity):
        tracemalloc.start()
        metric(x, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.8 * all_pairs, metric


def test_authentic_images():
    x, y = normal(40, 5, 15), normal(30, 5, 16)
    y[:8] = x[:8]
    own, across = cdist(x, x), cdist(y, x)
    np.fill_diagonal(own, np.inf)
    expected = across.min(axis=1) > own.min(axis=1)[across.argmin(axis=1)]
    assert authenticity(x, y).tolist() == expected.tolist()
    assert not authenticity(x, y)[:8].any()
    # As far as the nearest row is from its own neighbour: no farther.
    assert authenticity(np.array([[0.0], [1.0], [5.0]]), np.array([[-1.0], [2.5]])).tolist() == [
        0,
        1,
    ]


def test_opposite_features_are_copies_to_mifid():
    """1 - |cos|, as the authors and torchmetrics compute it."""
    x = normal(10, 5, 23)
    assert memorisation_distances(x, -3 * x) == pytest.approx(np.zeros(10), abs=1e-12)


def test_sets_are_resampled_independently():
    first, second = (resample_counts(50, 3, seed=0, stream=stream) for stream in (0, 1))
    assert (first != second).any()
    assert (first == resample_counts(50, 3, seed=0, stream=0)).all()


def test_vendi_of_few_and_of_many_rows():
    for n in (5, 60):
        x = normal(n, 12, 17)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        values = np.linalg.eigvalsh(unit @ unit.T / n)
        values = values[values > 1e-12]
        assert vendi(x) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-9)
        assert vendi(x, 2.0) == pytest.approx(1 / (values**2).sum(), rel=1e-9)
    assert vendi(np.concatenate([np.eye(4)] * 3)) == pytest.approx(4)


def test_mind_of_unequal_numbers_is_that_of_repeated_rows():
    x, y = normal(6, 3, 18), normal(4, 3, 19)
    directions = draw_directions(3, 20)
    equal = mind(np.repeat(x, 2, axis=0), np.repeat(y, 3, axis=0), directions)
    assert mind(x, y, directions) == pytest.approx(equal, rel=1e-12)
    assert mind(x, x[::-1], directions) == pytest.approx(0, abs=1e-20)


def test_mind_of_moved_points():
    """For two single values a direction, W2 is W1."""
    x, y = np.array([[0.0], [1.0]]), np.array([[5.0], [6.0]])
    expected = 3 * wasserstein_distance(x[:, 0], y[:, 0]) ** 2
    assert mind(x, y, np.ones((1, 1))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reference", "images", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), "2 features a row and the images have 4"),
        (np.ones((1, 2)), np.ones((3, 2)), "reference has 1 row"),
        (np.ones(3), np.ones((3, 2)), r"shape \(3,\)"),
        (np.ones((3, 2)), np.array([[1, 2], [np.nan, 1]]), "images, row 1 "),
        (np.ones((3, 2)), np.array([[1, 2], [-1e60, 1]]), "images, row 1 .*beyond 1e"),
        (np.ones((3, 2)), np.array([["a", "b"]]), "matrix of numbers"),
        (np.ones((3, 0)), np.ones((3, 0)), "matrix of numbers"),
    ],
)
def test_features_that_cannot_be_used(reference, images, message):
    for metric in (fid, kid, cmmd, overlap):
        with pytest.raises(InputError, match=message):
            metric(reference, images)


@pytest.mark.parametrize(
    "call",
    [
        lambda: overlap(np.eye(3), np.eye(3), k=3),
        lambda: list(draw_subsets(5, 9, 6)),
        lambda: gaussian_kernel(0.0),
        lambda: vendi(np.zeros((3, 2))),
        lambda: vendi(np.eye(3), 0.0),
        lambda: nearest(np.eye(3), np.eye(3), 4),
        lambda: mind(np.eye(3), np.eye(3), np.eye(2)),
        lambda: fid_influence(np.eye(3), np.eye(3)),
    ],
)
def test_arguments_out_of_range(call):
    with pytest.raises(InputError):
        call()
