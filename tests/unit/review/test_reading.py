"""What people saved of a review: rates, agreement and differences, and files that are refused."""

import itertools
import json
import random
import zlib

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.review.reading import read_review
from t2v_eval.review.result import FlagRate
from t2v_eval.review.sampling import available
from t2v_eval.stats.intervals import clopper_pearson
from t2v_eval.stats.raters import cohen_kappa, krippendorff_alpha
from t2v_eval.votes.key import Key
from t2v_eval.votes.tasks import PromptImages, Task, TaskImage

FLAGS = ("count", "unsafe")
DETAILS = {"flags": FLAGS, "sample": {"limit": 6, "seed": 3, "available": {"new": 9, "old": 6}}}


def write_key(folder, prompts=6, **changes):
    """Write the key of a page of prompts x two generators; return its tasks."""
    tasks = {}
    for n, name in itertools.product(range(prompts), ("new", "old")):
        task = Task(
            f"{name}{n}", str(n), f"{n} cats", (TaskImage(name, f"{folder}/{name}/{n}.png"),)
        )
        tasks[task.id] = task
    key = Key("review", "0123456789ab", tasks, DETAILS | changes)
    (folder / "key.json").write_text(key.to_json(folder))
    return tasks


def save(folder, voter, marks, name="", **changes):
    """Write what the page saves: `marks` are lists of flags and a note by the id of the task."""
    answers = []
    for task, (flags, note) in marks.items():
        # As JSON.stringify writes it: without spaces, and other than ASCII as it is.
        text = json.dumps([*flags, note], separators=(",", ":"), ensure_ascii=False)
        check = zlib.crc32(f"0123456789ab {voter} {task} {text}".encode())
        answers.append({"task": task, "flags": flags, "note": note, "check": f"{check:08x}"})
    content = {"version": 1, "kind": "review", "page": "0123456789ab", "voter": voter, "name": name}
    path = folder / f"reviews-{voter}.json"
    path.write_text(json.dumps(content | {"answers": answers} | changes))
    return path


def random_marks(tasks, rng, share=1.0):
    return {
        task: ([flag for flag in FLAGS if rng.random() < 0.4], "")
        for task in tasks
        if rng.random() < share
    }


@pytest.mark.parametrize(("count", "n"), [(0, 50), (50, 50), (0, 1), (1, 2), (7, 200), (3, 500)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_bounds_are_those_of_scipy(count, n, confidence):
    exact = binomtest(count, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(count, n, confidence) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(("n", "percent"), [(50, 7.1), (500, 0.74)])
def test_no_flag_in_n_images_bounds_the_share(n, percent):
    rate = FlagRate.of("unsafe", "new", "any rater", 0, n)
    assert rate.value == rate.low == 0
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / n))
    assert 100 * rate.high == pytest.approx(percent, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    ratings = rng.integers(0, 3, (40, 2)).astype(float)
    assert cohen_kappa(ratings) == pytest.approx(cohen_kappa_score(*ratings.T))
    holes = np.vstack([ratings, [[1, np.nan], [np.nan, np.nan]]])
    assert cohen_kappa(holes) == cohen_kappa(ratings)


def test_kappa_without_two_values_or_raters():
    assert np.isnan(cohen_kappa(np.ones((4, 2))))
    assert np.isnan(cohen_kappa(np.full((4, 2), np.nan)))
    with pytest.raises(InputError, match="two raters"):
        cohen_kappa(np.ones((4, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_rates_agreement_and_differences_are_those_of_a_count_by_hand(tmp_path, seed):
    rng = random.Random(seed)
    tasks = write_key(tmp_path)
    by_rater = {"Ann": random_marks(tasks, rng), "Ben": random_marks(tasks, rng, share=0.8)}
    for voter, name in (("aaaaaaaa", "Ann"), ("bbbbbbbb", "Ben")):
        save(tmp_path, voter, by_rater[name], name)
    result = read_review(tmp_path)
    assert (result.raters, result.sample) == (("Ann", "Ben"), Sample(6, 3))
    assert result.unseen == {"Ann": 0, "Ben": 12 - len(by_rater["Ben"])}

    def flagged(rater, task, flag):
        flags = by_rater[rater][task][0]
        return bool(flags) if flag == "any flag" else flag in flags

    rates = {(rate.flag, rate.generator, rate.rule): rate for rate in result.rates}
    shared = [task for task in tasks if task in by_rater["Ben"]]
    for flag, name in itertools.product((*FLAGS, "any flag"), ("new", "old")):
        own = [task for task in shared if task.startswith(name)]
        values = [(flagged("Ann", task, flag), flagged("Ben", task, flag)) for task in own]
        for rule, together in (("any rater", any), ("every rater", all)):
            rate = rates.pop((flag, name, rule))
            assert (rate.count, rate.n) == (sum(map(together, values)), len(own))
            assert rate.value == rate.count / rate.n and rate.low <= rate.value <= rate.high
        for rater in ("Ann", "Ben"):
            rate = rates.pop((flag, name, rater))
            seen = [task for task in by_rater[rater] if task.startswith(name)]
            assert (rate.count, rate.n) == (sum(flagged(rater, t, flag) for t in seen), len(seen))
    assert not rates

    for agreement in result.agreement:
        pairs = [[flagged(r, task, agreement.flag) for r in by_rater] for task in shared]
        assert (agreement.n, agreement.equal) == (len(pairs), sum(a == b for a, b in pairs))
        kappa = cohen_kappa_score(*np.transpose(pairs))
        assert agreement.kappa == pytest.approx(kappa, nan_ok=True)
        assert agreement.alpha == pytest.approx(
            krippendorff_alpha(np.array(pairs, float), "nominal"), nan_ok=True
        )
        assert [*agreement.disputed] == [
            tasks[task].images[0].path
            for task, (a, b) in zip(shared, pairs, strict=True)
            if a != b
        ]  # fmt: skip

    for difference in result.differences:
        both = [n for n in range(6) if f"new{n}" in shared and f"old{n}" in shared]
        new, old = (
            [any(flagged(r, f"{g}{n}", difference.flag) for r in by_rater) for n in both]
            for g in ("new", "old")
        )
        assert (difference.first, difference.second, difference.n) == ("new", "old", len(both))
        assert difference.value == pytest.approx(np.mean(new) - np.mean(old))
        only = sum(a and not b for a, b in zip(new, old, strict=True))
        other = sum(b and not a for a, b in zip(new, old, strict=True))
        # McNemar's exact test: twice the smaller tail of fair coins, at most 1.
        tail = (
            binomtest(min(only, other), only + other, alternative="less").pvalue
            if only + other
            else 1
        )
        assert difference.p == pytest.approx(min(1, 2 * tail))


def test_one_person_has_rates_and_no_agreement(tmp_path):
    tasks = write_key(tmp_path)
    path = save(tmp_path, "aaaaaaaa", {"new0": (["count"], "three"), "old0": ([], "")})
    result = read_review(path)
    assert result.agreement == [] and {rate.rule for rate in result.rates} == {"any rater"}
    assert [(d.n, d.value, d.p) for d in result.differences] == [
        (1, 1, 1), (1, 0, 1), (1, 1, 1)
    ]  # fmt: skip
    assert len(result.images) == 2 < len(tasks)
    content = result.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["rates"][0] | {"low": 0, "high": 0} == {
        "flag": "count", "generator": "new", "rule": "any rater", "count": 1, "n": 1,
        "value": 1, "low": 0, "high": 0,
    }  # fmt: skip


def test_three_people_have_no_kappa_and_an_alpha(tmp_path):
    tasks = write_key(tmp_path)
    rng = random.Random(1)
    files = [save(tmp_path, voter * 8, random_marks(tasks, rng)) for voter in "abc"]
    for agreement in read_review(files).agreement:
        assert np.isnan(agreement.kappa) and -1 <= agreement.alpha <= 1


GOOD = {"task": "new0", "flags": ["count"], "note": "", "check": "00000000"}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([GOOD], "does not fit its checksum"),
        ([GOOD | {"flags": ["hands"]}], r"flags \['hands'\] are not among count, unsafe"),
        ([GOOD | {"flags": ["count", "count"]}], "name one twice"),
        ([GOOD | {"flags": "count"}], "flags 'count' are not among"),
        ([GOOD | {"flags": [["count"]]}], "are not among"),
        ([GOOD | {"flags": None}], "flags None"),
        ([GOOD | {"note": 3}], "note 3 is no text"),
        ([GOOD | {"task": "new9"}], "no task 'new9'"),
        (["x"], "'x' is no JSON object"),
        ([], "holds no answers"),
    ],
)
def test_a_changed_file_is_an_error_that_names_it(tmp_path, answers, message):
    write_key(tmp_path)
    path = save(tmp_path, "aaaaaaaa", {}, answers=answers)
    with pytest.raises(TableError, match=message) as raised:
        read_review(path)
    assert str(path) in str(raised.value)


def test_a_note_or_flag_that_was_changed_is_noticed(tmp_path):
    write_key(tmp_path)
    path = save(tmp_path, "aaaaaaaa", {"new0": (["count"], 'füñf \\"x" \u2028 😀')})
    assert read_review(path).images[0].marks["aaaaaaaa"].note.startswith("füñf")
    for old, new in (('["count"]', '["unsafe"]'), ("\\ud83d\\ude00", "!")):
        other = tmp_path / "reviews-changed.json"
        other.write_text(path.read_text().replace(old, new))
        with pytest.raises(TableError, match="checksum"):
            read_review(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flags": None}, "says no flags or sample"),
        ({"flags": []}, "says no flags or sample"),
        ({"sample": {"limit": 0, "seed": 0, "available": {}}}, "says no flags or sample"),
        ({"sample": []}, "says no flags or sample"),
        ({"kind": "rate"}, "t2v-eval ratings"),
    ],
)
def test_a_key_that_is_not_of_a_review_is_refused(tmp_path, changes, message):
    write_key(tmp_path, **changes)
    path = save(tmp_path, "aaaaaaaa", {"new0": (["count"], "")})
    with pytest.raises(TableError, match=message):
        read_review(path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no reviews-\*.json"):
        read_review(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_review(tmp_path / "nowhere")
    write_key(tmp_path)
    path = save(tmp_path, "aaaaaaaa", {"new0": (["count"], "")})
    with pytest.raises(InputError, match="confidence=1"):
        read_review(path, confidence=1)
    with pytest.raises(TableError, match="same person"):
        read_review([path, path])
    (tmp_path / "key.json").unlink()
    with pytest.raises(TableError, match="no such file"):
        read_review(path)


def test_the_command_prints_rates_agreement_and_what_is_disputed(tmp_path):
    tasks = write_key(tmp_path)
    save(tmp_path, "aaaaaaaa", {task: (["count"], "") for task in tasks}, "Ann")
    save(tmp_path, "bbbbbbbb", {task: (["count"] * (task != "new3"), "") for task in tasks}, "Ben")
    done = CliRunner().invoke(app, ["flags", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0 and done.stderr == ""
    text = " ".join(done.stdout.split())
    assert "12 images of 2 generators, reviewed by 2 people" in text
    assert "count new 1.000 [0.541, 1.000] 6 of 6 0.833 [0.359, 0.996] 5 of 6" in text
    assert f"count, not agreed: {tasks['new3'].images[0].path}" in text
    assert "unsafe new - old 6 0 : 0 +0.000 1.000" in text


def test_available_counts_all_images():
    prompts = [
        PromptImages("0", "a", {"x": ["1", "2"]}),
        PromptImages("1", "b", {"x": ["3"], "y": ["4"]}),
    ]
    assert available(prompts) == {"x": 3, "y": 1}
