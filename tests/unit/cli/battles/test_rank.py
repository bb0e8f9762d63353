"""``t2v-eval rank``: what a user sees, JSON, the folder, and refusals."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from t2v_eval.cli.main import app

GOLDENS = Path(__file__).parents[3] / "goldens" / "preference"
SETS = json.loads((GOLDENS / "battles.json").read_text())


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(a) for a in ("rank", *arguments, "--resamples", 20)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def table(tmp_path):
    def write(name, rows=None):
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["model_a", "model_b", "winner"])
            writer.writerows(rows or SETS[name])
        return path

    return write


def test_a_table_and_what_its_figures_mean(table):
    lines = call(table("dense"), "--anchor", "m0=1000").stdout.splitlines()
    assert "900 battles of 7 models" in lines[0]
    assert lines[2].split()[:3] == ["model", "rank", "Bradley-Terry"]
    assert lines[4].split()[0] == "m5" and "m0 has 1000" in "".join(lines)
    assert "The first side won 50.4 %" in lines[-1]


def test_json(table):
    content = json.loads(call(table("dense"), "--json").stdout)
    assert next(iter(content["models"])) == "m5" and content["connected"]


def test_no_finite_rating(table):
    path = table("never_loses")
    message = " ".join(call(path, code=2).stderr.split())
    assert (
        f"{path}: no finite Bradley-Terry ratings exist" in message and "--prior normal" in message
    )
    done = call(path, "--prior", "normal", "--json")
    assert json.loads(done.stdout)["connected"] is False
    assert "warning: no finite ratings exist without a prior" in done.stderr


def test_a_folder(table, tmp_path):
    out = tmp_path / "ratings"
    done = call(table("two"), "--out", out, "--json")
    assert json.loads((out / "ratings.json").read_text()) == json.loads(done.stdout)
    assert "<title>Ratings of 2 models</title>" in (out / "ratings.html").read_text()
    assert str(out / "ratings.html") in done.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--anchor", "m0"], "--anchor 'm0': write MODEL=POINTS"),
        (["--anchor", "=5"], "write MODEL=POINTS"),
        (["--anchor", "m9=1000"], "no model called 'm9'"),
        (["--k", "0"], "--k 0"),
        (["--group", "judge"], "--group judge: no battle names a judge"),
        (["--column", "prompt=id"], "no column 'id'"),
        (["--column", "prompt=a", "--column", "prompt=b"], "name one column"),
    ],
)
def test_arguments_that_cannot_be_used(table, arguments, message):
    assert message in " ".join(call(table("dense"), *arguments, code=2).stderr.split())


def test_hostile_names(table):
    names = ["\x1b[31mred", "[bold]b[/bold]", "=1+1", "\u202eback"]
    rows = [(a, b, w) for a in names for b in names if a != b for w in ("model_a", "tie")]
    done = call(table("hostile", rows))
    assert "\x1b[31m" not in done.stdout and "\u202e" not in done.stdout
    assert "\\u001b[31mred" in done.stdout and "[bold]b[/bold]" in done.stdout
