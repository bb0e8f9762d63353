"""How much templates move scores, with a scorer whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.toy import ToyPair, draw_image
from scipy.stats import kendalltau

import t2v_eval
from t2v_eval.errors import InputError, UnknownNameError
from t2v_eval.inputs.template import Template

TEXTS = ["cat", "two dogs", "a red apple on a table"]


@pytest.fixture
def images():
    return [draw_image(seed) for seed in range(4)]


def test_scores_spread_and_order(images):
    scorer = ToyPair(device="cpu")
    template = Template("Is it {}?", "Yes")
    result = t2v_eval.template_sensitivity(scorer, images, TEXTS, ["vqascore", template])
    names = ["vqascore", "Is it {}? | Yes"]
    assert list(result.scores) == names
    torch.testing.assert_close(result.scores["vqascore"], scorer(images, TEXTS))
    both = [result.scores[name] for name in names]
    expected = (both[0] - both[1]).abs().div(2).mean()
    assert result.spread == pytest.approx(float(expected), rel=1e-5)
    tau = kendalltau(both[0].flatten(), both[1].flatten()).statistic
    assert result.order[names[0], names[1]] == pytest.approx(tau)
    same = (both[0].argmax(0) == both[1].argmax(0)).double().mean()
    assert result.same_best == pytest.approx(float(same))
    assert "tau-b" in str(result)


def test_one_image_has_no_rival(images):
    result = t2v_eval.template_sensitivity(
        ToyPair(device="cpu"), images[0], "cat", ["vqascore", "plain"]
    )
    assert math.isnan(result.same_best)


def test_templates_are_two_different_ones(images):
    scorer = ToyPair(device="cpu")
    for few in (["plain"], ["plain", "plain"], []):
        with pytest.raises(InputError, match="two or more different"):
            t2v_eval.template_sensitivity(scorer, images, TEXTS, few)
    with pytest.raises(UnknownNameError, match="vqascore"):
        t2v_eval.template_sensitivity(scorer, images, TEXTS, ["vqascor", "plain"])


def test_cells_without_a_score_are_left_out_and_counted(images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    scorer = ToyPair(device="cpu", on_error="skip")
    templates = ["vqascore", "plain"]
    whole = t2v_eval.template_sensitivity(scorer, images, TEXTS, templates)
    some = t2v_eval.template_sensitivity(
        scorer, [*images, tmp_path / "broken.png"], TEXTS, templates
    )
    assert (whole.used, some.used) == (12, 12)
    assert (some.spread, some.order) == (pytest.approx(whole.spread), whole.order)
    assert some.same_best == pytest.approx(whole.same_best)
    assert "12 of 15 cells" in str(some) and "12 of" not in str(whole)
