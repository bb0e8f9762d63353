"""Sizes of a plan, against the table of the specification, SciPy and simulations."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from t2v_eval.errors import InputError
from t2v_eval.protocol.sizes import Prices, plan_sizes, read_pilot
from t2v_eval.stats import power


def test_the_sizes_of_the_table():
    assert power.rate_limit(50) == pytest.approx(1 - 0.025 ** (1 / 50), abs=1e-12)
    assert round(100 * power.rate_limit(50), 1) == 7.1
    assert round(100 * power.rate_limit(500), 2) == 0.74
    assert round(100 * power.share_reach(200), 1) == 6.9
    assert round(100 * power.share_reach(2000), 1) == 2.2
    assert round(100 * power.share_effect(200), 1) == 59.9
    assert round(100 * power.share_effect(2000), 1) == 53.1
    assert power.paired_effect(500) == pytest.approx(0.125, abs=0.001)


@pytest.mark.parametrize("effect", [0.1, 0.25])
def test_simulated_power_is_within_three_points(effect):
    planned = plan_sizes(effect)
    rng = np.random.default_rng(0)
    n, runs = planned.sizes.prompts, 2000
    differences = rng.normal(effect, 1.0, (runs, n))
    p = stats.ttest_1samp(differences, 0.0, axis=1).pvalue
    assert abs((p < 0.05).mean() - 0.8) < 0.03
    pairs = planned.sizes.pairs  # of normal differences, in the share that these win
    wins = rng.binomial(pairs, stats.norm.cdf(effect), 4000)
    z = (wins / pairs - 0.5) / math.sqrt(0.25 / pairs)
    assert abs((np.abs(z) > stats.norm.ppf(0.975)).mean() - 0.8) < 0.03


def test_a_budget_limits_prompts_and_says_what_they_detect():
    prices = Prices(seconds_per_image=3.0, usd_per_gpu_hour=2.0, budget=20.0)
    planned = plan_sizes(0.05, prices=prices)
    # 6 images a prompt of 3 s at 2 dollars an hour are one cent.
    assert planned.needed == 3142
    assert planned.sizes.prompts == 2000
    assert not planned.within_budget
    assert planned.gpu_hours == pytest.approx(10.0)
    assert planned.us_dollars == pytest.approx(20.0)
    assert planned.detectable == pytest.approx(power.paired_effect(2000))
    with pytest.raises(InputError, match="a prompt costs 0.01 US dollars"):
        plan_sizes(0.05, prices=Prices(seconds_per_image=3.0, usd_per_gpu_hour=2.0, budget=0.01))


def test_of_several_scorers_the_one_with_the_largest_spread_decides():
    planned = plan_sizes(0.05, effect_unit="score", deviations={"a": 0.1, "b": 0.5})
    assert planned.sizes.prompts == power.paired_items(0.05, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": 0.0}, "`effect=0.0`"),
        ({"effect": math.nan}, "`effect=nan`"),
        ({"seeds": 0}, "`seeds=0`"),
        ({"review": 0}, "`review=0`"),
        ({"effect_unit": "score"}, "needs a pilot"),
        ({"chance": 1.0}, "power"),
    ],
)
def test_numbers_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        plan_sizes(**{"effect": 0.1, **options})
    with pytest.raises(InputError, match="budget_usd"):
        Prices(budget=-1.0)


def test_pilots(tmp_path):
    file = tmp_path / "report.json"
    file.write_text(json.dumps({"protocol_version": 1, "prompt_adherence": {"figures": []}}))
    with pytest.raises(InputError, match="it is no pilot"):
        read_pilot(tmp_path)
    figures = [{"name": "a", "sd": 0.25}, {"name": "b", "sd": None}]
    file.write_text(json.dumps({"protocol_version": 1, "prompt_adherence": {"figures": figures}}))
    assert read_pilot(tmp_path) == {"a": 0.25}
    file.write_text("[1]")
    with pytest.raises(InputError, match="report"):
        read_pilot(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_pilot(tmp_path / "nowhere")
