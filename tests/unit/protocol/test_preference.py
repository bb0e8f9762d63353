"""Battles of people and tables become the preference of a protocol, named for what they are."""

import csv
import json
import zlib

import pytest
from helpers.protocol_files import PLAN, write_generators, write_plan
from scipy.stats import binomtest
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import T2VError
from t2v_eval.protocol.generated import read_images
from t2v_eval.protocol.plan import read_plan
from t2v_eval.protocol.preference import measure_preference, read_sources

OF_TABLE = PLAN.replace('scorers = ["tiny-clip"]\n\n[pro', 'battles = ["battles.csv"]\n\n[pro')


def write_battles(folder, rows):
    with (folder / "battles.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["model_a", "model_b", "winner", "prompt", "judge"])
        writer.writerows(rows)


def measured(folder, text):
    plan = read_plan(write_plan(folder, 2, text))
    images = read_images(plan)
    return measure_preference(plan, images, read_sources(plan, images), "t2v-eval protocol")


def test_a_table_of_battles_under_names_and_folders(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    rows = [["new", "old", "model_a", f"p{n}", "ann"] for n in range(20)]
    rows += [["old", str(folder / "new" / "seed_1"), "model_a", f"q{n}", "bob"] for n in range(10)]
    rows += [["new", "sdxl", "model_b", "p0", "ann"]] * 3
    write_battles(folder, rows)
    (figure,) = measured(folder, OF_TABLE).figures
    exact = binomtest(20, 30).proportion_ci(0.95, method="wilson")
    assert figure.name == "battles.csv"
    assert figure.model == pytest.approx((20 / 30, exact.low, exact.high), abs=1e-6)
    assert figure.baseline.value == pytest.approx(10 / 30)
    assert figure.difference.value == pytest.approx(20 / 30 - 0.5)
    assert figure.p == pytest.approx(binomtest(20, 30).pvalue, abs=0.02)
    assert figure.source.made_by == "ann, bob"
    assert figure.source.n == 30


def test_battles_of_others_are_refused(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    write_battles(folder, [["flux", "sdxl", "tie", "p", ""]])
    with pytest.raises(T2VError, match="has no battle between 'new' and 'old'; it names 'flux'"):
        measured(folder, OF_TABLE)


def test_a_model_that_wins_every_battle_is_rated_with_a_prior(tmp_path):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    write_battles(folder, [["new", "old", "model_a", f"p{n}", ""] for n in range(12)])
    (figure,) = measured(folder, OF_TABLE).figures
    assert figure.model.value == 1
    assert 0.7 < figure.model.low < 0.8  # Wilson of 12 of 12
    assert any("Bradley-Terry" in note for note in figure.notes)


def test_votes_of_people_are_named_votes(tmp_path):
    folder = write_generators(tmp_path, 6, 2, reference=2)
    images = [str(folder / name / "seed_0") for name in ("new", "old")]
    words = ["vote", str(folder / "prompts.csv"), "--out", str(folder / "vote")]
    words += ["--attention", "0", "--images", images[0], "--images", images[1]]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    key = json.loads((folder / "vote" / "key.json").read_text())
    answers = []
    for task, content in key["tasks"].items():
        choice = "left" if "new" in content["images"][0]["image"] else "right"
        check = zlib.crc32(f"{key['page']} 0123abcd {task} {choice}".encode())
        answers.append({"task": task, "choice": choice, "check": f"{check:08x}"})
    saved = {"version": 1, "kind": "vote", "page": key["page"], "voter": "0123abcd", "name": "Ann"}
    (folder / "vote" / "votes.json").write_text(json.dumps(saved | {"answers": answers}))
    of_people = 'votes = ["vote/votes.json"]\nkeys = ["vote/key.json"]\n\n[pro'
    (figure,) = measured(folder, PLAN.replace('scorers = ["tiny-clip"]\n\n[pro', of_people)).figures
    assert figure.name == "votes"
    assert "people" in figure.measures
    assert figure.source.made_by == "1 person"
    assert (figure.model.value, figure.source.n) == (1, 6)


def test_the_plan_command_writes_a_plan_that_is_read(tmp_path, monkeypatch):
    folder = write_generators(tmp_path, 4, 2, reference=2)
    monkeypatch.chdir(folder)
    words = ["plan", "--effect", "0.05", "-m", "tiny-clip", "--features", "tiny-clip"]
    words += ["-b", "prompts.csv", "--reference", "reference"]
    for flag, name in (("--images", "new"), ("--baseline", "old")):
        words += [word for k in range(2) for word in (flag, f"{name}/seed_{k}")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "needs 3,142 prompts" in done.output
    plan = read_plan(folder / "plan.toml")
    assert (plan.model.name, plan.baseline.name) == ("new", "old")
    assert plan.model.images == ("new/seed_0", "new/seed_1")
    assert read_images(plan).model.seeds == 2
    assert (folder / "plan.md").read_text().startswith("# Plan of a protocol")
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "pass --overwrite" in again.output
    assert CliRunner().invoke(app, [*words, "--overwrite"]).exit_code == 0
    wrong = CliRunner().invoke(app, ["plan", "--out", "plan.yaml"])
    assert "a plan is a .toml file" in wrong.output
