"""Decisions on pairs of generators in a report: page, Markdown, terminal, JSON, and cards."""

import csv
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from helpers.red_images import redness
from PIL import Image

import t2v_eval
from t2v_eval.cli import console
from t2v_eval.errors import InputError
from t2v_eval.evaluation.verdicts import decision_counts, verdicts_of
from t2v_eval.registry import benchmarks
from t2v_eval.report.claims import claims
from t2v_eval.report.report import Report, compare
from t2v_eval.report.tables import sections
from t2v_eval.stats.decisions import DecisionCounts, decide

GENERATORS = ("flux", "sdxl", "turbo")
PROMPTS = 14


def rating(n, generator):
    """People rate flux above the others, between which they see no difference."""
    return {"flux": 4 + n % 2, "sdxl": 2 + n % 3, "turbo": 2 + (n + 1) % 3}[generator]


def red(n, generator):
    """The scorer puts turbo above sdxl, and flux below both."""
    return {"flux": 20 + n, "sdxl": 60 + (7 * n) % 11, "turbo": 90 + (5 * n) % 13}[generator]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("rated")
    rows = []
    for n in range(PROMPTS):
        for generator in GENERATORS:
            name = f"{generator}_{n}.png"
            Image.new("RGB", (4, 4), (red(n, generator), n, 0)).save(root / name)
            rows.append([name, f"thing {n}", rating(n, generator), generator, f"p{n}"])
    with (root / "rated.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "text", "human", "generator", "group"], *rows])
    scorer = t2v_eval.from_function(redness, name="red", version="1")
    return compare(scorer, str(root / "rated.csv"), resamples=20, noise_floor=False)


def test_a_rated_table_has_the_outcome_of_each_pair(report):
    outcomes = {(d.first, d.second): d.outcome for d in report.runs[0].decisions}
    assert outcomes == {
        ("flux", "sdxl"): "opposite",
        ("flux", "turbo"): "opposite",
        ("sdxl", "turbo"): "claimed",
    }
    (section,) = sections(report.runs, report.labels, report.differences)
    assert claims(section)[-1].text == (
        "Of 3 pairs of generators, red ordered 0 as people did and 2 the other way, and claimed a "
        "difference in 1 where people saw none; the means of 2 are in the other order."
    )


def test_files_have_the_tables_and_the_report_is_read_back(report, tmp_path):
    report.write(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(files("t2v_eval.report").joinpath("report.schema.json").read_text())
    jsonschema.validate(content, schema)
    decisions = content["runs"][0]["decisions"]
    assert decisions["counts"] == {
        "same": 0, "opposite": 2, "missed": 0, "claimed": 1, "neither": 0, "reordered": 2,
    }  # fmt: skip
    assert decisions["pairs"][0]["people"]["difference"] > 0 and len(decisions["pairs"]) == 3
    loaded = Report.load(tmp_path)
    assert loaded.runs[0].decisions == report.runs[0].decisions
    table = loaded.runs[0].by_generator()
    assert decide(table.ratings, table.scores, table.generators) == loaded.runs[0].decisions
    page = (tmp_path / "report.html").read_text()
    assert "Decisions on generators" in page and "decisions by pair of generators" in page
    assert "<td>opposite, reordered</td>" in page
    markdown = (tmp_path / "report.md").read_text()
    assert "### decisions on 3 pairs of generators" in markdown
    assert "| red | 0 | 2 | 0 | 1 | 0 | 2 |" in markdown


def test_the_terminal_prints_them(report, capsys):
    console.print_report(report)
    printed = " ".join(capsys.readouterr().out.split())
    assert "decisions on 3 pairs of generators" in printed and "red 0 2 0 1 0 2" in printed


def test_labels_of_truth_and_single_generators_have_none(report):
    scenes = compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    assert scenes.runs[0].decisions == () and "decisions" not in scenes.to_json()["runs"][0]


def test_facts_of_cards_are_read_back(report, tmp_path):
    run = replace(
        report.runs[0], scorer=replace(report.runs[0].scorer, verdicts=verdicts_of("clipscore"))
    )
    known = Report([run])
    known.write(tmp_path)
    (loaded,) = Report.load(tmp_path).runs
    assert loaded.scorer.verdicts == run.scorer.verdicts
    assert loaded.scorer.verdicts[0].decisions == DecisionCounts(
        same=4, missed=4, claimed=1, neither=1, reordered=3
    )


def test_every_card_names_all_of_its_pairs_once():
    for card in benchmarks.cards.values():
        for scorer in set(card.verdicts) - {"source"}:
            counts = decision_counts(card, scorer)
            assert counts.pairs == 10 and counts.reordered <= 10, (card.name, scorer)
            assert card.verdicts["source"]


@pytest.mark.parametrize(
    "table", [{"same": 1, "wrong": 2}, {"same": -1}, {"same": 1.5}, {"same": True}, {}, 5]
)
def test_a_card_with_other_keys_or_values_is_named(table):
    card = replace(benchmarks.card("tifa160"), file=Path("mine.toml"), verdicts={"red": table})
    with pytest.raises(InputError, match=r"mine\.toml: `verdicts` of 'tifa160' has 'red' = "):
        decision_counts(card, "red")
