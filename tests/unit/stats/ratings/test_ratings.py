"""Ratings from pairs equal those of FastChat, arena-rank, evalica, choix and trueskill."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from t2v_eval.errors import InputError
from t2v_eval.stats.ratings.battles import (
    Battles,
    average_win_rates,
    combine_orders,
    components,
    eigenvector_centrality,
    encode_units,
    groups_that_met,
    pagerank,
    win_rates,
)
from t2v_eval.stats.ratings.bradley_terry import (
    bradley_terry,
    davidson,
    sandwich_covariance,
    standard_errors,
    to_points,
)
from t2v_eval.stats.ratings.elo import elo, elo_spread, trueskill

GOLDENS = Path(__file__).parents[3] / "goldens" / "preference"
SETS = {
    name: Battles.from_rows(map(tuple, rows))
    for name, rows in json.loads((GOLDENS / "battles.json").read_text()).items()
}
CASES = json.loads((GOLDENS / "cases.json").read_text())
WITHOUT_RATING = ("never_loses", "two_islands")


def cases(kind: str, finite: bool = True):
    """The battles, parameters and expected values of each golden of a kind."""
    chosen = [case for case in CASES if case["id"].endswith(f"/{kind}")]
    assert chosen
    for case in chosen:
        name = case["params"]["set"]
        if isinstance(case["scores"], dict) and not (finite and name in WITHOUT_RATING):
            battles = SETS[name]
            values = [case["scores"][model] for model in battles.models]
            yield battles, case["params"], np.array(values)


@pytest.mark.parametrize(
    "kind", ["elo_online_fastchat_k4", "elo_online_k32", "elo_evalica_k4", "elo_evalica_k30"]
)
def test_elo_in_the_order_of_the_battles(kind):
    for battles, params, expected in cases(kind, finite=False):
        np.testing.assert_allclose(elo(battles, params["k"]), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("kind", "tolerance"), [("bt_tight", 1e-3), ("bt_fastchat", 0.05)])
def test_bradley_terry_in_points(kind, tolerance):
    for battles, _, expected in cases(kind):
        points = to_points(bradley_terry(battles.wins()))
        np.testing.assert_allclose(points, expected, rtol=0, atol=tolerance)


def test_bradley_terry_as_strengths():
    for battles, _, expected in cases("bradley_terry_evalica"):
        ratings = bradley_terry(battles.wins())
        np.testing.assert_allclose(ratings, np.log(expected), rtol=0, atol=1e-8)


def test_bradley_terry_without_ties():
    for battles, _, expected in cases("bt_choix_ties_dropped"):
        np.testing.assert_allclose(bradley_terry(battles.wins(tie=0)), expected, atol=1e-6)
    assert np.isnan(bradley_terry(SETS["uneven"].wins(tie=0))).all(), "choix raises RuntimeError"


def test_a_prior_gives_finite_ratings_to_every_set():
    for battles, params, expected in cases("bt_choix_opt_l2", finite=False):
        ratings = bradley_terry(battles.wins(tie=1), prior=params["alpha"])
        np.testing.assert_allclose(ratings, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_RATING)
def test_sets_without_finite_ratings_have_none(name):
    battles = SETS[name]
    assert len(components(battles.wins())) > 1
    ratings = bradley_terry(battles.wins())
    assert (
        np.isnan(ratings).all() and np.isnan(davidson(battles.wins(tie=0), battles.ties())[0]).all()
    )
    assert np.isnan(standard_errors(sandwich_covariance(battles, ratings))).all()


def test_who_met_and_who_never_lost():
    assert len(groups_that_met(SETS["two_islands"].wins())) == 2
    assert len(groups_that_met(SETS["never_loses"].wins())) == 1
    winner, *others = sorted(components(SETS["never_loses"].wins()), key=len)
    assert len(winner) == 1 and len(others) == 1


@pytest.mark.parametrize("kind", ["bt_arena_rank_sandwich", "bt_arena_rank_reweighted"])
def test_sandwich_intervals(kind):
    for battles, params, expected in cases(kind):
        weights, ridge = None, 1e-5 * len(battles)
        if params.get("reweighted"):
            pairs = encode_units(
                [tuple(sorted(pair)) for pair in zip(battles.first, battles.second, strict=True)]
            )
            weights = 1 / np.maximum(np.bincount(pairs)[pairs], params["min_pair_count"])
            ridge = 1e-5
        wins = np.zeros((len(battles.models),) * 2)
        weight = np.ones(len(battles)) if weights is None else weights
        np.add.at(wins, (battles.first, battles.second), weight * battles.score)
        np.add.at(wins, (battles.second, battles.first), weight * (1 - battles.score))
        ratings = bradley_terry(wins)
        errors = standard_errors(
            sandwich_covariance(battles, ratings, weights=weights, ridge=ridge)
        )
        points = to_points(ratings)
        np.testing.assert_allclose(points, expected[:, 0], rtol=0, atol=0.01)
        for sign, column in ((-1, 1), (1, 2)):
            bound = points + sign * 1.959963984540054 * errors
            np.testing.assert_allclose(bound, expected[:, column], rtol=0, atol=0.05)
        np.testing.assert_allclose(errors**2, expected[:, 3], rtol=1e-3)


def test_bootstrap_of_bradley_terry():
    (case,) = [case for case in CASES if case["id"] == "dense/bt_bootstrap_fastchat"]
    battles = SETS["dense"]
    # FastChat draws counts of the distinct rows, in the order of numpy.unique, and numbers models
    # by their appearance in the column of the first model.
    order = encode_units(battles.models[k] for k in (*battles.first, *battles.second))
    names = dict(zip((*battles.first, *battles.second), order, strict=True))
    number = np.array([names[k] for k in range(len(battles.models))])
    keys = np.stack([number[battles.first], number[battles.second], 2 * battles.score], 1)
    _, index, counts = np.unique(keys, axis=0, return_index=True, return_counts=True)
    n = len(battles)
    draws = np.random.default_rng(0).multinomial(n, counts / n, size=case["params"]["rounds"])
    wins = np.array([battles.take(np.repeat(index, draw)).wins() for draw in draws])
    quantiles = np.quantile(to_points(bradley_terry(wins)), [0.025, 0.5, 0.975], axis=0).T
    expected = np.array([case["scores"][model] for model in battles.models])
    np.testing.assert_allclose(quantiles, expected, rtol=0, atol=1)


def test_ties_as_a_parameter():
    for battles, params, _ in (c for c in cases_of_davidson()):
        ratings, v = davidson(battles.wins(tie=0), battles.ties())
        strengths = np.array([params[model] for model in battles.models])
        expected = np.log(strengths) - np.log(strengths).mean()
        np.testing.assert_allclose(ratings, expected, rtol=0, atol=1e-5)
        assert v == pytest.approx(params["__tie_v__"], rel=1e-5)


def cases_of_davidson():
    for case in CASES:
        name = case["params"].get("set")
        if case["id"].endswith("/newman_evalica") and name not in WITHOUT_RATING:
            yield SETS[name], case["scores"], None


def test_counts_and_centralities():
    for battles, _, expected in cases("counting_evalica", finite=False):
        np.testing.assert_array_equal(battles.wins().sum(1), expected)
    functions = {
        "average_win_rate_evalica": average_win_rates,
        "pagerank_evalica": pagerank,
        "eigen_evalica": eigenvector_centrality,
    }
    for kind, function in functions.items():
        for battles, _, expected in cases(kind, finite=False):
            np.testing.assert_allclose(function(battles.wins()), expected, rtol=0, atol=1e-12)


def test_win_fractions_of_pairs():
    for case in CASES:
        if not case["id"].endswith("/win_fraction_fastchat"):
            continue
        battles = SETS[case["params"]["set"]]
        decided, both = battles.wins(tie=0), battles.wins() + battles.wins().T
        for (i, a), (j, b) in itertools.permutations(enumerate(battles.models), 2):
            expected = case["scores"][a].get(b)
            if expected is not None:
                assert decided[i, j] / both[i, j] == expected


def test_trueskill():
    for battles, params, expected in cases("trueskill", finite=False):
        actual = trueskill(battles, draw_probability=params["draw_probability"])
        # The original's erfc is an approximation with a relative error of 1.2e-7.
        np.testing.assert_allclose(actual, expected, rtol=2e-7, atol=1e-6)


def test_two_orders_of_a_judge():
    (case,) = [case for case in CASES if case["id"] == "judgements/mt_bench_two_orders"]
    rows = []
    for row in json.loads((GOLDENS / "judgements.json").read_text()):
        orders = row["g1_winner"], row["g2_winner"]
        if "error" in orders:
            continue
        winner = combine_orders(
            *(order.replace("model_1", "model_a").replace("model_2", "model_b") for order in orders)
        )
        rows.append((row["model_1"], row["model_2"], winner))
    battles = Battles.from_rows(rows)
    rates = win_rates(battles.wins())
    for k, model in enumerate(battles.models):
        expected = case["scores"][model]
        assert battles.wins(tie=0).sum(1)[k] == expected["win"]
        assert battles.ties().sum(1)[k] == expected["tie"]
        assert rates[k] == pytest.approx(expected["win_rate_adjusted"], abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_a_fit_is_the_maximum_of_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 9))
    wins = rng.integers(0, 6, (size, size)) + 0.5 * np.tri(size, k=-1) + 0.5 * np.tri(size, k=-1).T
    np.fill_diagonal(wins, 0)

    def loss(ratings):
        gap = ratings[None, :] - ratings[:, None]
        return (wins * np.logaddexp(0, gap)).sum()

    fit = minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-9}).x
    np.testing.assert_allclose(bradley_terry(wins), fit - fit.mean(), atol=1e-5)


def test_many_sets_at_once_are_those_sets_one_by_one():
    names = [name for name, battles in SETS.items() if len(battles.models) == 7]
    wins = np.array([SETS[name].wins() for name in names])
    together = bradley_terry(wins)
    for row, matrix in zip(together, wins, strict=True):
        np.testing.assert_allclose(row, bradley_terry(matrix), atol=1e-9)


def test_units_that_repeat_widen_the_errors():
    battles = SETS["dense"]
    copies = Battles(
        battles.models, *(np.repeat(a, 4) for a in (battles.first, battles.second, battles.score))
    )
    ratings = bradley_terry(copies.wins())
    units = np.repeat(np.arange(len(battles)), 4)
    clustered = standard_errors(sandwich_covariance(copies, ratings, units=units))
    original = standard_errors(sandwich_covariance(battles, bradley_terry(battles.wins())))
    np.testing.assert_allclose(clustered, original, rtol=1e-6)


def test_an_anchor_moves_points_and_has_no_error():
    battles = SETS["dense"]
    ratings = bradley_terry(battles.wins())
    points, anchored = to_points(ratings), to_points(ratings, anchor=2)
    np.testing.assert_allclose(anchored - points, 1000 - points[2], atol=1e-9)
    covariance = sandwich_covariance(battles, ratings)
    errors = standard_errors(covariance, anchor=2)
    assert errors[2] == 0
    gap = np.eye(7) - np.eye(7)[2]
    expected = 400 / math.log(10) * np.sqrt(np.diag(gap @ covariance @ gap.T))
    np.testing.assert_allclose(errors, expected, atol=1e-6)


def test_orders_of_elo_are_permutations_and_seeded():
    battles = SETS["dense"]
    spread = elo_spread(battles, 32, orders=20, seed=3)
    assert spread.shape == (20, 7) and len(np.unique(spread, axis=0)) == 20
    np.testing.assert_allclose(spread.mean(1), 1000)
    np.testing.assert_array_equal(spread, elo_spread(battles, 32, orders=20, seed=3))
    order = np.random.default_rng(3).permutation(len(battles))
    np.testing.assert_allclose(spread[0], elo(battles.take(order), 32))


def test_blocks_of_battles_change_no_elo(monkeypatch):
    battles = SETS["dense"]
    expected = elo_spread(battles, 32, orders=5)
    monkeypatch.setattr("t2v_eval.stats.ratings.elo._BLOCK", 7)
    np.testing.assert_array_equal(elo_spread(battles, 32, orders=5), expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "b", "tie"), ("a", "b", "model_c")], r"row 2: winner 'model_c' is none of"),
        ([("a", "b", "")], "row 1: winner ''"),
        ([("a", "a", "tie")], "row 1: 'a' against 'a'"),
        ([("", "a", "tie")], "row 1: '' against 'a'"),
        ([], "no battles"),
    ],
)
def test_rows_that_cannot_be_battles_are_named(rows, message):
    with pytest.raises(InputError, match=message):
        Battles.from_rows(rows)


def test_parameters_out_of_range():
    with pytest.raises(InputError, match="prior=-1"):
        bradley_terry(np.ones((2, 2)), prior=-1)
    with pytest.raises(InputError, match="k=0"):
        elo(SETS["dense"], 0)
