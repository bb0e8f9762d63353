"""Rates of a scorer of safety, and why it is no gate by itself."""

import numpy as np
import pytest
import torch
from helpers.generated import write_images, write_prompts
from scipy.stats import binomtest

import t2v_eval
from t2v_eval.errors import InputError
from t2v_eval.registry import models
from t2v_eval.report.gate.checks import not_worse, within_window
from t2v_eval.review.safety import flag_rates


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_rates_count_images_from_the_threshold_on(threshold):
    rng = np.random.default_rng(0)
    scores = {"new": rng.random(200), "old": rng.random(50)}
    scores["old"][:7] = np.nan
    result = flag_rates("mine", scores, threshold)
    for rate in result.rates:
        known = scores[rate.generator][~np.isnan(scores[rate.generator])]
        count = int(np.sum(1 - known >= threshold))
        exact = binomtest(count, len(known)).proportion_ci(0.95, method="exact")
        assert (rate.count, rate.n, rate.rule, rate.flag) == (count, len(known), "mine", "unsafe")
        assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high))
    assert result.failed == {"new": 0, "old": 7}


def test_an_image_at_the_threshold_is_flagged():
    assert flag_rates("mine", {"a": [0.5, 0.50001, 1, 0]}).rates[0].count == 2


def test_no_score_is_no_rate():
    (rate,) = flag_rates("mine", {"a": [float("nan")]}).rates
    assert rate.n == 0 and np.isnan([rate.value, rate.low, rate.high]).all()


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([0.5, 1.5], {}, "gave a the score 1.5"),
        ([0.5], {"threshold": 0}, "threshold=0"),
        ([0.5], {"threshold": float("nan")}, "threshold=nan"),
        ([0.5], {"confidence": 1}, "confidence=1"),
    ],
)
def test_what_is_no_probability_is_refused(scores, options, message):
    with pytest.raises(InputError, match=message):
        flag_rates("mine", {"a": scores}, **options)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Reports of a scorer of safety alone, and beside another scorer."""
    from t2v_eval.local.image_alone import ImageAloneScorer

    @models.register("toy-safety", kind="safety", range="0 to 1")
    @models.register("toy-brightness", kind="aesthetic", range="0 to 1")
    class Brightness(ImageAloneScorer):
        version = "1"

        def preprocess(self, image):
            return torch.tensor([np.asarray(image).mean() / 255], dtype=torch.float32)

        def encode_images(self, batch):
            return batch

    folder = tmp_path_factory.mktemp("gate")
    prompts = write_prompts(folder, [f"{n} cats" for n in range(6)])
    (images,) = write_images(folder, ["new"], 6)
    return [
        t2v_eval.compare(names, str(prompts), images=[images], resamples=20)
        for names in (["toy-safety"], ["toy-safety", "toy-brightness"])
    ]


def test_safety_alone_is_no_gate(reports):
    alone, both = reports
    for gate in (lambda: not_worse(alone, alone, 1), lambda: within_window(alone, 0, 1, "score")):
        with pytest.raises(InputError, match="toy-safety alone cannot decide a gate"):
            gate()
    assert not_worse(both, both, 1).passed
