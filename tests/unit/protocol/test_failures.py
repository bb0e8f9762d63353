"""What raters flag on a page of a review becomes the failure analysis of a protocol."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.protocol_files import PLAN, write_generators, write_plan
from scipy.stats import binomtest
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import T2VError
from t2v_eval.protocol.adherence import ScorerScores
from t2v_eval.protocol.criteria import check_criteria
from t2v_eval.protocol.failures import measure_failures, read_flags
from t2v_eval.protocol.generated import read_images
from t2v_eval.protocol.plan import Criterion, read_plan

REVIEWED = PLAN + '\n[failure_analysis]\nreview = ["review"]\n'


def review(folder, flagged, voters=("0123abcd",)):
    """Write the page of a review of all images, and the answers of raters.

    Args:
        flagged: of the name of the rater's place and the path of an image, its flags.
    """
    words = ["review", str(folder / "prompts.csv"), "--sample", "100", "--out"]
    words += [str(folder / "review")]
    for name in ("new", "old"):
        for k in range(2):
            words += ["--images", str(folder / name / f"seed_{k}")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    key = json.loads((folder / "review" / "key.json").read_text())
    for place, voter in enumerate(voters):
        answers = []
        for task, content in key["tasks"].items():
            flags = flagged(place, content["images"][0]["image"])
            text = json.dumps([*flags, ""], separators=(",", ":"))
            check = zlib.crc32(f"{key['page']} {voter} {task} {text}".encode())
            answers.append({"task": task, "flags": flags, "note": "", "check": f"{check:08x}"})
        saved = {"version": 1, "kind": "review", "page": key["page"], "voter": voter, "name": ""}
        file = folder / "review" / f"reviews-{voter}.json"
        file.write_text(json.dumps(saved | {"answers": answers}))


def test_rates_of_both_generators_are_over_all_their_seeds(tmp_path):
    folder = write_generators(tmp_path, 8, 2, reference=2)

    def flagged(place, image):
        wrong = ("old/seed_0" in image) or ("new/seed_1/00003" in image and place == 0)
        return ["count"] if wrong else []

    review(folder, flagged, ("0123abcd", "89abcdef"))
    plan = read_plan(write_plan(folder, 2, REVIEWED))
    images = read_images(plan)
    pillar = measure_failures(images, read_flags(plan, images), "t2v-eval protocol plan.toml")
    count = next(figure for figure in pillar.figures if figure.name == "count")
    for side, count_of_side in ((count.model, 1), (count.baseline, 8)):
        exact = binomtest(count_of_side, 16).proportion_ci(0.95, method="exact")
        assert side == pytest.approx((count_of_side / 16, exact.low, exact.high))
    assert count.difference.value == pytest.approx(-7 / 16)
    assert not count.higher_is_better
    assert count.source.n == 16
    assert count.source.made_by == "2 raters"
    assert "new 1 of 16, old 8 of 16" in count.notes[0]
    assert count.notes[1].startswith("Cohen's kappa 0.9")
    unsafe = next(figure for figure in pillar.figures if figure.name == "unsafe")
    assert unsafe.model.high == pytest.approx(1 - 0.025 ** (1 / 16))


def test_a_review_of_other_images_is_refused(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    review(folder, lambda place, image: [])
    others = write_generators(tmp_path / "others", 4, 2, reference=2)
    text = REVIEWED.replace('"review"', f'"{folder}/review"')
    plan = read_plan(write_plan(others, 2, text))
    with pytest.raises(T2VError, match="no reviewed image is of 'new' or 'old'"):
        read_flags(plan, read_images(plan))


def test_one_rater_is_named_as_one(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    review(folder, lambda place, image: [])
    plan = read_plan(write_plan(folder, 2, REVIEWED))
    images = read_images(plan)
    pillar = measure_failures(images, read_flags(plan, images), "")
    assert any("one person looked" in line for line in pillar.warnings)
    assert measure_failures(images, None, "").missing


def test_a_classifier_of_safety_flags_and_gates_nothing(tmp_path):
    """Rates are Clopper-Pearson's over all images; the classifier is a function of the colours."""
    folder = write_generators(tmp_path, 4, 2, reference=2)
    names = ("new", "old")
    scores = ScorerScores(
        "classifier", "classifier v1", np.array([[0.9, 0.2, 0.9, 0.9]] * 2), np.full((2, 4), 0.9)
    )
    text = PLAN + '\n[failure_analysis]\nsafety = ["classifier"]\n'
    plan = read_plan(write_plan(folder, 2, text))
    images = read_images(plan)
    assert tuple(g.name for g in images.generators) == names
    pillar = measure_failures(images, None, "t2v-eval protocol plan.toml", [scores])
    (figure,) = pillar.figures
    exact = binomtest(2, 8).proportion_ci(0.95, method="exact")
    assert figure.model == pytest.approx((2 / 8, exact.low, exact.high))
    assert figure.baseline.value == 0
    assert not figure.higher_is_better
    assert "nobody looked at outputs" in pillar.warnings[0]
    limit = Criterion(
        pillar="failure_analysis", kind="at_most", figure="classifier", limit=0.1, gate=True
    )
    with pytest.raises(T2VError, match="it gates nothing by itself"):
        check_criteria(replace(plan, criteria=(limit,)), 500)
