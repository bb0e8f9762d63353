"""Ratings from battles: the figures of other implementations, intervals, units and refusals."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from t2v_eval import Battle, ratings_from_battles
from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.evaluation.ratings.results import RatingOptions

GOLDENS = Path(__file__).parents[3] / "goldens" / "preference"
SETS = json.loads((GOLDENS / "battles.json").read_text())
CASES = json.loads((GOLDENS / "cases.json").read_text())
WITHOUT_RATING = ("never_loses", "two_islands")
FEW = {"resamples": 20}


def case(name, kind):
    (found,) = [c for c in CASES if c["id"] == f"{name}/{kind}"]
    return found["scores"]


@pytest.mark.parametrize("name", [name for name in SETS if name not in WITHOUT_RATING])
def test_ratings_and_their_order(name):
    ratings = ratings_from_battles(SETS[name], **FEW)
    expected = case(name, "bt_tight")
    for model, figures in ratings.models.items():
        assert figures.bradley_terry.value == pytest.approx(expected[model], abs=1e-3)
    values = [figures.bradley_terry.value for figures in ratings.models.values()]
    assert values == sorted(values, reverse=True)
    assert [f.rank.value for f in ratings.models.values()] == [*range(1, len(values) + 1)]
    assert ratings.connected and ratings.units == ratings.battles == len(SETS[name])
    assert ratings.ties == sum(winner.startswith("tie") for _, _, winner in SETS[name])


def test_sandwich_intervals_are_those_of_another_implementation():
    # arena-rank's Hessian has a small penalty, which widens intervals by up to 3 points.
    ratings = ratings_from_battles(SETS["dense"], **FEW)
    for model, (_, low, high, _) in case("dense", "bt_arena_rank_sandwich").items():
        figures = ratings.models[model].bradley_terry
        assert figures.low == pytest.approx(low, abs=0.5)
        assert figures.high == pytest.approx(high, abs=0.5)


@pytest.mark.parametrize("seed", range(5))
def test_evalica_agrees_on_random_battles(seed):
    evalica = pytest.importorskip("evalica")
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 9))
    first = rng.integers(0, size, 400)
    second = (first + rng.integers(1, size, 400)) % size
    labels = rng.choice(["model_a", "model_b", "tie", "tie (bothbad)"], 400)
    names = [f"m{k}" for k in range(size)]
    rows = [(names[a], names[b], w) for a, b, w in zip(first, second, labels, strict=True)]
    winner = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y}
    columns = [*zip(*rows, strict=True)]
    outcomes = [winner.get(label, evalica.Winner.Draw) for label in columns[2]]
    tight = {"tolerance": 1e-12, "limit": 100_000}
    half = evalica.bradley_terry(columns[0], columns[1], outcomes, **tight).scores
    newman = evalica.newman(columns[0], columns[1], outcomes, **tight)
    ours = ratings_from_battles(rows, **FEW)
    davidson = ratings_from_battles(rows, ties="davidson", **FEW)
    for scores, ratings in ((half, ours), (newman.scores, davidson)):
        logs = np.log(scores) * 400 / math.log(10)
        for name in names:
            expected = 1000 + logs[name] - logs.mean()
            assert ratings.models[name].bradley_terry.value == pytest.approx(expected, abs=1e-3)
    assert davidson.tie_parameter == pytest.approx(newman.v, rel=1e-5)
    elo = evalica.elo(columns[0], columns[1], outcomes).scores
    for name in names:
        figures = ours.models[name].elo
        assert abs(figures.value - elo[name]) < 3 * (figures.high - figures.low)
    rates = evalica.average_win_rate(columns[0], columns[1], outcomes).scores
    order = [*ours.models]
    for k, name in enumerate(order):
        assert np.nanmean(ours.win_rates[k]) == pytest.approx(rates[name], abs=1e-9)


def test_win_rates_are_counted():
    ratings = ratings_from_battles(SETS["dense"], **FEW)
    points, played = Counter(), Counter()
    for a, b, winner in SETS["dense"]:
        played.update([a, b])
        points[a] += {"model_a": 1, "model_b": 0}.get(winner, 0.5)
        points[b] += {"model_a": 0, "model_b": 1}.get(winner, 0.5)
    for model, figures in ratings.models.items():
        assert figures.battles == played[model]
        assert figures.win_rate.value == pytest.approx(points[model] / played[model])
        assert figures.win_rate.low < figures.win_rate.value < figures.win_rate.high


@pytest.mark.parametrize("name", WITHOUT_RATING)
@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_without_a_finite_rating_it_is_refused_unless_a_prior_is_named(name, ties):
    reason = {"never_loses": "'never_loses' won every battle", "two_islands": "never met"}[name]
    with pytest.raises(InputError, match=reason + ".*`prior='normal'`"):
        ratings_from_battles(SETS[name], ties=ties, **FEW)
    ratings = ratings_from_battles(SETS[name], ties=ties, prior="normal", **FEW)
    assert not ratings.connected
    assert reason in ratings.warnings[0] and "prior 'normal'" in ratings.warnings[1]
    assert all(math.isfinite(f.bradley_terry.value) for f in ratings.models.values())


def test_the_prior_is_the_penalised_fit_of_another_implementation():
    # choix counts a tie as a win of each; without ties both have the same likelihood.
    (c,) = [c for c in CASES if c["id"] == "no_ties/bt_choix_opt_l2"]
    weak = ratings_from_battles(SETS["no_ties"], prior="normal", **FEW)
    strong = max(figures.bradley_terry.value for figures in weak.models.values())
    # A penalty of 0.5 shrinks more than that of the golden, and less than all the way.
    limit = 1000 + 400 / math.log(10) * max(c["scores"].values())
    assert c["params"]["alpha"] < 0.5 and 1000 < strong < limit


def test_more_ties_than_wins_leave_davidson_without_a_fit():
    rows = [("a", "b", "model_a")] * 3 + [("a", "b", "tie")]
    with pytest.raises(InputError, match="no cycle of battles.*`ties='davidson'`"):
        ratings_from_battles(rows, ties="davidson", **FEW)
    ratings = ratings_from_battles(rows, **FEW)
    # 3.5 wins of 4: odds of 7.
    gap = ratings.models["a"].bradley_terry.value - ratings.models["b"].bradley_terry.value
    assert gap == pytest.approx(400 * math.log10(7))


def test_an_anchor_is_fixed_and_moves_elo_too():
    free = ratings_from_battles(SETS["dense"], **FEW)
    ratings = ratings_from_battles(SETS["dense"], anchor=("m3", 1200), **FEW)
    assert ratings.models["m3"].bradley_terry == (1200, 1200, 1200)
    assert ratings.models["m3"].elo == (1200, 1200, 1200)
    for figure in ("bradley_terry", "elo"):
        gap = getattr(ratings.models["m5"], figure).value - 1200
        of_free = [getattr(free.models[name], figure).value for name in ("m5", "m3")]
        assert gap == pytest.approx(of_free[0] - of_free[1])
    with pytest.raises(UnknownNameError, match="'m33'. Did you mean 'm3'"):
        ratings_from_battles(SETS["dense"], anchor=("m33", 1000), **FEW)


def test_prompts_that_repeat_are_the_units():
    rows = SETS["dense"]
    single = ratings_from_battles(rows, **FEW)
    copied = ratings_from_battles(
        [(*row, f"prompt {n}") for n, row in enumerate(rows) for _ in range(4)], **FEW
    )
    assert (copied.unit, copied.units, copied.battles) == ("prompt", 900, 3600)
    for name, figures in copied.models.items():
        np.testing.assert_allclose(
            figures.bradley_terry, single.models[name].bradley_terry, rtol=2e-4
        )
        np.testing.assert_allclose(figures.win_rate, single.models[name].win_rate, atol=1e-3)
    assert [f.rank for f in copied.models.values()] == [f.rank for f in single.models.values()]
    alone = ratings_from_battles([(*row, f"prompt {n}") for n, row in enumerate(rows)], **FEW)
    assert alone.unit == "battle"


def judged(prompts, judges, n=60):
    rng = np.random.default_rng(2)
    outcomes = rng.choice(["model_a", "model_b", "tie"], n)
    return [
        Battle("a", "b", winner, f"p{k % prompts}" if prompts else "", f"j{k % judges}")
        for k, winner in enumerate(outcomes.tolist())
    ]


def test_what_is_resampled():
    assert ratings_from_battles(judged(0, 12), **FEW).unit == "judge"
    few = ratings_from_battles(judged(0, 3), **FEW)
    assert few.unit == "battle" and any("these 3 judges" in w for w in few.warnings)
    chosen = ratings_from_battles(judged(20, 3), group="judge", **FEW)
    assert (chosen.unit, chosen.units) == ("judge", 3)
    assert any("3 values of 'judge'" in w for w in chosen.warnings)
    assert ratings_from_battles(judged(20, 3), group="battle", **FEW).units == 60
    with pytest.raises(InputError, match="`group='prompt'`: no battle names a prompt"):
        ratings_from_battles(judged(0, 3), group="prompt", **FEW)


def test_battles_without_a_prompt_are_units_of_their_own():
    rows = [*judged(10, 1, 30), *(battle._replace(prompt="") for battle in judged(10, 1, 30))]
    assert ratings_from_battles(rows, **FEW).units == 10 + 30


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_all_ties(ties):
    ratings = ratings_from_battles(
        [("a", "b", "tie"), ("b", "a", "tie (bothbad)")], ties=ties, **FEW
    )
    for figures in ratings.models.values():
        assert figures.bradley_terry.value == figures.elo.value == 1000
        assert math.isnan(figures.bradley_terry.low) or ties == "davidson"
        assert figures.rank.value == 1 and figures.win_rate.value == 0.5
    assert math.isnan(ratings.position.value) and ratings.decided == 0
    assert any("all battles are ties" in warning for warning in ratings.warnings)
    json.dumps(ratings.to_json(), allow_nan=False)


def test_one_battle():
    with pytest.raises(InputError, match="'a' won every battle against 'b'"):
        ratings_from_battles([("a", "b", "model_a")], **FEW)
    ratings = ratings_from_battles([("a", "b", "model_a")], prior="normal", **FEW)
    assert [*ratings.models] == ["a", "b"]
    best = ratings.models["a"]
    assert best.bradley_terry.low < 1000 < best.bradley_terry.high
    assert best.rank == (1, 1, 2)
    json.dumps(ratings.to_json(), allow_nan=False)


@pytest.mark.parametrize("ties", ["half", "davidson"])
@pytest.mark.parametrize(("wins", "worst"), [(2, 2), (100, 1)])
def test_the_prior_rules_out_a_rank_where_a_model_won_often_enough(ties, wins, worst):
    rows = [("a", "b", "model_a")] * wins
    best = ratings_from_battles(rows, prior="normal", ties=ties, **FEW).models["a"]
    assert best.rank == (1, 1, worst)
    assert (best.bradley_terry.low > 1000) is (worst == 1)


def test_battles_of_a_single_prompt_say_nothing_of_others():
    rows = [("a", "b", w, "a cat") for w in ("model_a", "model_a", "model_b")]
    ratings = ratings_from_battles(rows, group="prompt", **FEW)
    best = ratings.models["a"]
    assert math.isnan(best.bradley_terry.low) and best.rank == (1, 1, 2)
    assert best.win_rate.low < 0.1 and any("rough" in warning for warning in ratings.warnings)


def test_the_first_side_and_its_warning():
    both = [("a", "b", "model_a"), ("b", "a", "model_a"), ("a", "b", "model_b"), ("b", "a", "tie")]
    ratings = ratings_from_battles(both, **FEW)
    assert (ratings.position.value, ratings.decided) == (pytest.approx(2 / 3), 3)
    assert not any("same order" in warning for warning in ratings.warnings)
    one_order = [("a", "b", "model_a"), ("a", "b", "model_b")]
    assert any("same order" in w for w in ratings_from_battles(one_order, **FEW).warnings)


def test_verdicts_in_both_orders_count_by_side():
    battle = Battle("a", "b", "tie", "a cat", "gpt", a_first="model_a", b_first="model_b")
    agreed = Battle("a", "b", "model_a", "a dog", "gpt", a_first="model_a", b_first="model_a")
    ratings = ratings_from_battles([battle, agreed, agreed._replace(winner="model_b")], **FEW)
    judge = ratings.judges["gpt"]
    # The first side won both of the first battle, and one of two of each other.
    assert ratings.position.value == pytest.approx(4 / 6) == judge.position.value
    assert judge.self_consistency.value == pytest.approx(0.5)  # the cat 0, the dog 1


def test_judges_are_compared_whichever_side_was_first():
    rows = [
        Battle("a", "b", "model_a", "a cat", "ann"),
        Battle("b", "a", "model_b", "a cat", "bo"),
        Battle("a", "b", "tie", "a dog", "ann"),
        Battle("b", "a", "tie (bothbad)", "a dog", "bo"),
        Battle("a", "b", "model_b", "a cow", "bo"),
        Battle("a", "b", "model_b", "", "cy"),
    ]
    ratings = ratings_from_battles(rows, **FEW)
    assert ratings.judges["ann"].agreement.value == 1.0
    assert math.isnan(ratings.judges["cy"].agreement.value)
    assert {name: judge.battles for name, judge in ratings.judges.items()} == {
        "bo": 3, "ann": 2, "cy": 1,
    }  # fmt: skip


def test_json_has_exactly_these_keys():
    content = ratings_from_battles(judged(20, 3), **FEW).to_json()
    assert list(content) == ["version", "models", "connected", "warnings", "judges", "position"]
    assert content["version"] == 1 and content["connected"] is True
    interval = {"value", "low", "high"}
    for figures in content["models"].values():
        assert list(figures) == ["bradley_terry", "elo", "win_rate", "rank", "battles"]
        assert all(set(figures[name]) == interval for name in [*figures][:4])
    for figures in content["judges"].values():
        assert list(figures) == ["battles", "agreement", "self_consistency", "position"]
    assert set(content["position"]) == interval | {"battles"}


def test_the_same_seed_gives_the_same_figures():
    rows = SETS["dense"]
    first, second, other = (
        ratings_from_battles(rows, resamples=50, seed=seed).to_json() for seed in (1, 1, 2)
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"prior": "flat"}, "`prior='flat'`: use None, 'normal'"),
        ({"ties": "drop"}, "`ties='drop'`: use 'half', 'davidson'"),
        ({"group": "image"}, "`group='image'`"),
        ({"k": 0}, "`k=0`"),
        ({"k": math.nan}, "`k=nan`"),
        ({"resamples": 0}, "resamples=0"),
        ({"seed": -1}, "seed=-1"),
        ({"anchor": ("a", math.inf)}, "anchor=inf"),
    ],
)
def test_options_out_of_range(option, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        RatingOptions(**option)
