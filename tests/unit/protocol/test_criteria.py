"""Verdicts of criteria: limits by intervals, and claims by corrected tests."""

import itertools
import math

import numpy as np
import pytest

from t2v_eval.evaluation.benchmark import Item
from t2v_eval.protocol.adherence import ScorerScores, measure_adherence
from t2v_eval.protocol.criteria import MET, NOT_MET, UNTOLD, check_criteria, claim_p, verdicts
from t2v_eval.protocol.figures import Figure, PillarResult, Source, corrected
from t2v_eval.protocol.generated import GeneratedImages, ProtocolImages
from t2v_eval.protocol.plan import Criterion, GeneratorImages, ProtocolPlan
from t2v_eval.stats.bootstrap import Interval

NAN = math.nan


def plan_of(*criteria):
    new, old = (GeneratorImages(name=name, images=(name,)) for name in ("new", "old"))
    return ProtocolPlan(prompts="a.csv", model=new, baseline=old, criteria=criteria)


def figure(name="a", difference=(0.1, 0.05, 0.15), p=0.001, **changes):
    source = Source(command="t2v-eval protocol plan.toml", made_by="mine", n=500)
    values = Interval(0.5, 0.4, 0.6), Interval(0.4, 0.3, 0.5)
    facts = {"measures": "", "model": values[0], "baseline": values[1], "source": source}
    facts |= {"difference": Interval(*difference), "p": p, "sd": 0.5}
    return Figure(name=name, **(facts | changes))


def verdict(criterion, *figures):
    pillar = corrected(PillarResult(criterion.pillar, figures))
    return verdicts(plan_of(criterion), {criterion.pillar: pillar})[0].outcome


@pytest.mark.parametrize(
    ("difference", "higher", "outcome"),
    [
        ((0.0, -0.04, 0.04), True, MET),
        ((0.0, -0.06, 0.06), True, UNTOLD),
        ((-0.2, -0.3, -0.06), True, NOT_MET),
        ((0.2, 0.06, 0.3), True, MET),
        ((0.0, NAN, NAN), True, UNTOLD),
        ((0.2, 0.06, 0.3), False, NOT_MET),
        ((-0.2, -0.3, -0.1), False, MET),
    ],
)
def test_a_margin_is_decided_by_the_whole_interval(difference, higher, outcome):
    criterion = Criterion(pillar="prompt_adherence", kind="not_worse", figure="a", margin=0.05)
    assert verdict(criterion, figure(difference=difference, higher_is_better=higher)) == outcome


def test_units_of_a_margin():
    worse = figure(difference=(0.0, -0.09, 0.09))
    for unit, margin, outcome in [
        ("sd", 0.2, MET),  # of 0.5
        ("sd", 0.1, UNTOLD),
        ("share", 0.25, MET),  # of 0.4
        ("share", 0.2, UNTOLD),
    ]:
        criterion = Criterion(
            pillar="preference", kind="not_worse", figure="a", margin=margin, unit=unit
        )
        assert verdict(criterion, worse) == outcome
    criterion = Criterion(pillar="preference", kind="not_worse", figure="a", margin=1, unit="sd")
    assert verdict(criterion, figure(sd=NAN)) == UNTOLD


@pytest.mark.parametrize(
    ("kind", "limit", "outcome"),
    [
        ("at_most", 0.6, MET),
        ("at_most", 0.55, UNTOLD),
        ("at_most", 0.39, NOT_MET),
        ("at_least", 0.4, MET),
        ("at_least", 0.45, UNTOLD),
        ("at_least", 0.61, NOT_MET),
    ],
)
def test_limits_of_the_figure_of_the_model(kind, limit, outcome):
    criterion = Criterion(pillar="failure_analysis", kind=kind, figure="a", limit=limit)
    assert verdict(criterion, figure()) == outcome


def test_a_figure_that_is_not_there_decides_nothing():
    criterion = Criterion(pillar="preference", kind="at_most", figure="b", limit=9)
    assert verdict(criterion, figure()) == UNTOLD
    assert verdict(criterion) == UNTOLD
    unknown = Interval(NAN, NAN, NAN)
    assert verdict(criterion, figure("b", model=unknown)) == UNTOLD
    assert verdicts(plan_of(criterion), {})[0].outcome == UNTOLD


def test_fid_of_few_images_decides_nothing():
    source = Source(command="", made_by="net", n=9_999, unit="images")
    criterion = Criterion(pillar="sample_quality", kind="at_most", figure="fid (net)", limit=9)
    assert verdict(criterion, figure("fid (net)", source=source)) == UNTOLD
    source = Source(command="", made_by="net", n=10_000, unit="images")
    assert verdict(criterion, figure("fid (net)", source=source)) == MET
    gate = plan_of(Criterion(**{**vars_of(criterion), "gate": True}))
    with pytest.raises(ValueError, match=r"criteria 1: fid \(net\) of 500 images is no gate"):
        check_criteria(gate, 500)
    check_criteria(gate, 10_000)


def vars_of(criterion):
    return {name: getattr(criterion, name) for name in criterion.__dataclass_fields__}


def test_a_claim_needs_as_many_figures_as_agree():
    claim = Criterion(pillar="prompt_adherence", kind="better")
    agreeing = [figure(name, p=0.01) for name in "abc"]
    assert verdict(claim, *agreeing) == MET
    assert verdict(claim, *agreeing[:2]) == UNTOLD
    assert verdict(claim, *agreeing[:2], figure("c", p=0.2)) == UNTOLD
    backwards = figure("c", difference=(-0.1, -0.15, -0.05), p=0.01)
    assert verdict(claim, *agreeing[:2], backwards) == NOT_MET  # they contradict each other
    worse = [figure(name, difference=(-0.1, -0.15, -0.05), p=0.01) for name in "abc"]
    assert verdict(claim, *worse) == NOT_MET
    assert verdict(Criterion(pillar="preference", kind="better", figure="a"), agreeing[0]) == MET


def test_the_p_value_of_a_claim_is_that_of_the_worst_choice_of_figures():
    """The partial conjunction of r of k: Bonferroni within each k - r + 1, the worst of them."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        k = int(rng.integers(1, 6))
        agree = int(rng.integers(1, k + 1))
        figures = [
            figure(str(n), difference=(rng.choice([-1.0, 1.0]), -2, 2), p=float(rng.random()))
            for n in range(k)
        ]
        one_sided = [f.p / 2 if f.difference.value > 0 else 1 - f.p / 2 for f in figures]
        size = k - agree + 1
        worst = max(size * min(part) for part in itertools.combinations(one_sided, size))
        claim = Criterion(pillar="prompt_adherence", kind="better", agree=agree)
        assert claim_p(claim, figures) == pytest.approx(min(1.0, 2 * worst))


@pytest.mark.parametrize("agree", [1, 3])
def test_two_equal_generators_are_given_no_claim(agree):
    """Of 150 null protocols with three correlated scorers, at most 5 % are given a claim."""
    rng = np.random.default_rng(7)
    prompts, false = 40, 0
    images = ProtocolImages(
        None,
        [Item([], [f"prompt {n}"]) for n in range(prompts)],
        GeneratedImages("new", {0: [], 1: []}),
        GeneratedImages("old", {0: [], 1: []}),
        prompts,
    )
    plan = plan_of(
        Criterion(pillar="prompt_adherence", kind="better", agree=agree),
        Criterion(pillar="prompt_adherence", kind="better", figure="a"),
    )
    for _ in range(150):
        shared = rng.normal(size=(2, 2, prompts))
        scores = []
        for name in "abc":
            table = 0.6 * shared + 0.8 * rng.normal(size=shared.shape)
            scores.append(ScorerScores(name, name, table[0], table[1]))
        pillar = corrected(measure_adherence(images, scores, ""))
        false += any(v.met for v in verdicts(plan, {"prompt_adherence": pillar}))
    assert false <= 150 * 0.05 + 2 * math.sqrt(150 * 0.05 * 0.95)
