"""What people would say, in a report: against the estimates by hand, in every output."""

import csv
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from helpers.red_images import redness, report_of, write_folders
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, TableError
from t2v_eval.evaluation.by_generator import ByGenerator
from t2v_eval.evaluation.human_ratings import PlacedRatings, RatedCell
from t2v_eval.evaluation.people import people_of
from t2v_eval.report.claims import claims
from t2v_eval.report.report import Report, compare
from t2v_eval.report.tables import sections
from t2v_eval.stats.prediction_powered import (
    prediction_powered_difference,
    prediction_powered_mean,
)

PROMPTS, GENERATORS = 60, ("flux", "sdxl", "turbo")


def experiment(seed=0, lead=1.0, generators=GENERATORS):
    """Return reds and ratings of shape (prompts, generators); flux is ahead by `lead`."""
    rng = np.random.default_rng(seed)
    ahead = [lead, 0.0, 0.0][: len(generators)]
    quality = rng.normal(0, 1, (PROMPTS, 1)) + rng.normal(ahead, 0.6, (PROMPTS, len(generators)))
    reds = np.clip(np.round(120 + 25 * quality + rng.normal(0, 8, quality.shape)), 0, 255)
    return reds, np.clip(np.round(3 + quality + rng.normal(0, 0.4, quality.shape)), 1, 5)


def write_ratings(path, ratings, rated, generators=GENERATORS):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "generator", "rating"])
        writer.writerows(
            [f"p{n}", name, ratings[n, k]] for n in rated for k, name in enumerate(generators)
        )
    return path


def texts_of(report):
    (section,) = sections(report.runs, report.labels, report.differences)
    return claims(section)


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A report of three generators with ratings of every third prompt, and both by hand."""
    root = tmp_path_factory.mktemp("people")
    reds, ratings = experiment()
    rows = range(0, PROMPTS, 3)
    path = write_ratings(root / "ratings.csv", ratings, rows)
    by_name = dict(zip(GENERATORS, reds.T, strict=True))
    report = report_of(root / "images", by_name, human=path)
    known = np.full(ratings.shape, np.nan)
    known[list(rows)] = ratings[list(rows)]
    return report, reds, known


def test_estimates_are_those_of_the_means_of_prompts(rated):
    report, reds, ratings = rated
    people = report.runs[0].people
    assert people.file == "ratings.csv" and people.prompts == PROMPTS / 3
    assert [(d.first, d.second) for d in people.differences] == [
        ("flux", "sdxl"), ("flux", "turbo"), ("sdxl", "turbo"),
    ]  # fmt: skip
    for difference, pair in zip(people.differences, ([0, 1], [0, 2], [1, 2]), strict=True):
        expected = prediction_powered_difference(ratings[:, pair], reds[:, pair])
        assert difference.estimate.interval == pytest.approx(expected.interval)
        assert difference.test.p == pytest.approx(expected.p)
        assert difference.test.p_holm >= difference.test.p
    for k, name in enumerate(GENERATORS):
        expected = prediction_powered_mean(ratings[:, k], reds[:, k])
        assert people.means[name].interval == pytest.approx(expected.interval)
        assert people.means[name].worth == expected.worth
    assert people.remarks == ()


def test_the_score_beside_a_rating_is_that_of_the_rated_images():
    rng = np.random.default_rng(9)
    scores = rng.normal(size=(30, 2))  # two images of each prompt, of which one is rated
    rated = {n: float(rng.integers(1, 6)) for n in range(0, 30, 3)}
    means = scores.mean(axis=1, keepdims=True)
    empty, rows = np.full((30, 1), np.nan), [[n] for n in range(30)]
    table = ByGenerator(["flux"], means, empty, rows, list(range(30)))
    cells = [RatedCell(n, "flux", [1], rating) for n, rating in rated.items()]
    blocks = [row[:, None] for row in scores]
    people = people_of(table, blocks, PlacedRatings("r.csv", cells, unused=0))
    beside = np.where(np.isin(np.arange(30), list(rated)), scores[:, 1], means[:, 0])
    expected = prediction_powered_mean([rated.get(n) for n in range(30)], beside)
    assert people.means["flux"] == expected


def test_the_first_sentence_is_of_people(rated):
    claim = texts_of(rated[0])[0]
    assert claim.text.startswith(
        "Of 3 generators, people would rate flux highest, from ratings of 20 prompts and scores of "
        "60 by red ("
    )
    assert claim.significant and "higher than " in claim.text


def test_files_have_it_and_the_report_is_read_back(rated, tmp_path):
    report = rated[0]
    report.write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text())
    jsonschema.validate(content, schema)
    people = content["runs"][0]["people"]
    assert set(people["means"]) == set(GENERATORS) and len(people["differences"]) == 3
    assert people["differences"][0]["scored"] == 60 and people["differences"][0]["rated"] == 20
    assert Report.load(tmp_path).runs[0].people == report.runs[0].people
    page = (tmp_path / "report.html").read_text()
    assert "What people would say" in page and "mean ratings that people would give" in page
    markdown = (tmp_path / "report.md").read_text()
    assert "### differences that people would see" in markdown
    assert "\\(prediction-powered" in markdown or "(prediction-powered" in markdown


def two(root, seed, lead, rated, **options):
    names = GENERATORS[:2]
    reds, ratings = experiment(seed, lead, names)
    path = write_ratings(root / "ratings.csv", ratings, rated, names)
    return report_of(root / "images", dict(zip(names, reds.T, strict=True)), human=path, **options)


def test_two_generators_that_people_tell_apart(tmp_path):
    report = two(tmp_path, 0, 1.0, range(0, PROMPTS, 2))
    (difference,) = report.runs[0].people.differences
    first, second = texts_of(report)
    low, high = (f"{x:.3f}" for x in difference.estimate.interval[1:])
    assert first.text.startswith(
        f"People would rate flux {difference.estimate.interval.value:.3f} [{low}, {high}] points "
        "higher than sdxl, p"
    )
    assert first.text.endswith(", from ratings of 30 prompts and scores of 60 by red.")
    assert "The ratings alone give" in first.basis[0] and first.significant
    assert f"worth {difference.estimate.worth} rated prompts" in first.basis[0]
    assert second.text.startswith("flux scores higher than sdxl on red over 60 prompts")


def test_two_generators_that_people_do_not_tell_apart(tmp_path):
    report = two(tmp_path, 3, 0.0, range(1, PROMPTS, 6))
    claim = texts_of(report)[0]
    assert claim.text.startswith(
        "Which of flux and sdxl people would rate higher cannot be told from ratings of 10 prompts"
    )
    assert not claim.significant


def test_too_few_ratings_say_nothing(tmp_path):
    report = two(tmp_path, 0, 1.0, (3, 9, 20))
    assert texts_of(report)[0].text == (
        "What people would say of flux and sdxl is not known: there are too few ratings, or all "
        "are equal."
    )
    jsonable = report.to_json()["runs"][0]["people"]["differences"][0]
    assert jsonable["low"] is None and jsonable["p_holm"] is None


def test_one_generator_has_a_mean(tmp_path):
    reds, ratings = experiment(generators=("flux",))
    path = write_ratings(tmp_path / "r.csv", ratings, range(0, PROMPTS, 4), ("flux",))
    report = report_of(tmp_path / "images", {"flux": reds[:, 0]}, human=path)
    assert texts_of(report)[0].text.startswith("People would rate flux ")


def test_a_part_that_is_not_random_is_said(tmp_path):
    reds, ratings = experiment()
    by_name = dict(zip(GENERATORS, reds.T, strict=True))
    first = write_ratings(tmp_path / "first.csv", ratings, range(15))
    highest = np.argsort(-reds[:, 0])[:20]
    best = write_ratings(tmp_path / "best.csv", ratings, highest)
    folders = write_folders(tmp_path / "images", by_name)
    scorer = t2v_eval.from_function(redness, name="red", version="1")

    def remarks(path, **options):
        prompts = str(tmp_path / "images/prompts.csv")
        report = compare(
            scorer, prompts, images=folders, human=path, resamples=5, noise_floor=False, **options
        )
        return " ".join(report.runs[0].people.remarks)

    assert "The rated prompts are the first 15 of 60" in remarks(first)
    assert "Scores of rated images of flux" in remarks(best)
    assert "rows of first.csv are of other prompts" in remarks(first, limit=40)


def test_generators_without_ratings_or_scores_are_named_and_nothing_is_lost(tmp_path):
    reds, ratings = experiment()
    by_name = dict(zip(GENERATORS, reds.T, strict=True))
    path = write_ratings(tmp_path / "r.csv", ratings, range(0, PROMPTS, 3), GENERATORS[:2])
    report = report_of(tmp_path / "images", by_name, human=path)
    people = report.runs[0].people
    assert set(people.means) == {"flux", "sdxl"} and len(people.differences) == 1
    assert people.remarks == (
        "Nothing can be said of turbo: none of its images has both a rating and a score.",
    )


def test_ratings_need_one_set_of_prompts_before_anything_is_scored(tmp_path):
    reds, ratings = experiment(generators=("flux",))
    path = write_ratings(tmp_path / "r.csv", ratings, range(8), ("flux",))

    def never(images, texts):
        raise AssertionError("scored")

    scorer = t2v_eval.from_function(never, name="never")
    with pytest.raises(InputError, match="one set of prompts"):
        compare(scorer, "scenes", benchmark_options={"n": 2}, human=path)
    folders = write_folders(tmp_path / "images", {"sdxl": reds[:, 0]})
    with pytest.raises(TableError, match="by 'flux', and the generators are sdxl"):
        compare(scorer, str(tmp_path / "images/prompts.csv"), images=folders, human=path)


def test_the_command_takes_the_file(tmp_path):
    reds, ratings = experiment()
    write_folders(tmp_path, dict(zip(GENERATORS, reds.T, strict=True)))
    path = write_ratings(tmp_path / "ratings.csv", ratings, range(0, PROMPTS, 3))
    (tmp_path / "red.py").write_text(
        "def red(images, texts):\n"
        "    return [[float(i.getpixel((0, 0))[0])] * len(texts) for i in images]\n"
    )
    command = ["eval", "-m", f"{tmp_path / 'red.py'}:red", "-b", str(tmp_path / "prompts.csv")]
    command += ["--images", str(tmp_path / "flux"), "--images", str(tmp_path / "sdxl")]
    command += ["--human", str(path), "--no-store", "--resamples", "20", "--no-noise-floor"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    printed = " ".join(done.stdout.split())
    assert "People would rate flux" in printed and "differences that people would see" in printed
    content = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert content["runs"][0]["people"]["file"] == "ratings.csv"
    command[command.index(str(path))] = "no.csv"
    missing = CliRunner().invoke(app, command)
    assert missing.exit_code == 2 and "no.csv: no such file" in missing.stderr
