"""`t2v-eval power`: plans without and with a pilot, as text and as JSON, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.red_images import report_of
from typer.testing import CliRunner

from t2v_eval.cli.main import app

TIFA160 = Path(__file__).parents[2] / "fixtures/decisions/tifa160_clipscore.csv"


def call(*arguments, code=0):
    done = CliRunner().invoke(app, ["power", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def text_of(*arguments):
    return " ".join(call(*arguments).stdout.split())


def test_plans_without_a_pilot():
    assert "needs 787 paired items with a power of 80 %" in text_of("--effect", 0.1)
    assert "needs 1,053 paired items with a power of 90 %" in text_of(
        "--effect", 0.1, "--power", 0.9
    )
    assert "the standard deviation 0.2 needs 34" in text_of("--effect", 0.1, "--sd", 0.2)
    blind = text_of("--share", 0.6, "--items", 200)
    assert "197 pairs" in blind and "a share of wins of 59.9 %" in blind
    assert "below 7.1 %" in text_of("--items", 50) and "below 0.74 %" in text_of("--items", 500)
    plan = json.loads(call("--items", 2000, "--effect", 0.1, "--json").stdout)
    assert round(100 * plan["items"]["detectable_share"], 1) == 53.1
    assert plan["paired"] == {"effect": 0.1, "sd": 1.0, "items": 787}


def test_a_report_of_two_generators_is_a_pilot(tmp_path):
    reds = {"flux": [60 + 7 * (n % 5) for n in range(20)], "sdxl": [60 + n for n in range(20)]}
    report_of(tmp_path / "images", reds).write(tmp_path / "report")
    printed = text_of(tmp_path / "report", "--effect", 2, "--items", 400)
    assert "flux - sdxl" in printed and "20 prompts could have shown a difference of" in printed
    assert (
        "with 400" in printed and "A pilot of 20 prompts knows the spread only roughly." in printed
    )
    assert "--effect" not in printed, "the effect was named"
    content = json.loads(call(tmp_path / "report" / "report.json", "--json").stdout)
    (plan,) = content["comparisons"]
    assert content["power"] == 0.8 and plan["pilot"] == 20 and plan["method"] == "paired t"
    assert set(plan["difference"]) == {"value", "low", "high"}


def test_two_columns_of_a_table_are_a_pilot(tmp_path):
    rows = [f"{n},{n % 5 + 1},{(n % 5) / 5 + (n % 3) / 9},{(n * 7 % 11) / 11}" for n in range(40)]
    table = tmp_path / "pilot.csv"
    table.write_text("\n".join(["prompt,human,a,b", *rows]))
    common = (table, "--scores", "a", "--scores", "b", "--resamples", 50)
    printed = text_of(*common, "--human", "human")
    assert "tau_b" in printed and "40 rows are enough" not in printed.replace(",", "")
    assert "plan with the smallest one that matters (--effect)" in printed
    means = json.loads(call(*common, "--group", "prompt", "--json").stdout)["comparisons"][0]
    assert (means["metric"], means["unit"], means["on"]) == ("mean score", "prompt", "")


def test_equal_differences_have_no_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,5\n4,5,5\n7,8,7\n")
    scores = [word for name in "abc" for word in ("--scores", name)]
    printed = text_of(tmp_path / "t.csv", *scores, "--items", 9)
    assert "a and b: all differences of the pilot are equal" in printed
    assert "a - b mean score -1.0000 0.0000 3 rows a - c" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "pass a pilot (a report or a table), --effect, --share or --items"),
        (("--effect", "0.1", "--power", "1"), "--power 1.0: pass a number between 0 and 1"),
        (("--effect", "0.1", "--alpha", "0"), "--alpha 0.0: pass a number between 0 and 1"),
        (("--effect", "0.1", "--power", "0.01"), "above alpha"),
        (("--share", "60"), "--share 60.0: pass a number from 0 to 1"),
        (("--items", "1"), "pass a whole number of at least 2"),
        (("--effect", "0.1", "--sd", "0"), "--sd 0.0: pass a finite number above 0"),
        (("--scores", "a"), "need a pilot"),
        (("TABLE",), "name two columns"),
        (("TABLE", "--scores", "likert_mean"), "two columns or more"),
        (("TABLE", "--scores", "likert_mean", "--scores", "x"), "no column 'x'"),
        (("TABLE", "--share", "0.6"), "without a pilot"),
        (("FOLDER",), "holds no report.json"),
        (("FOLDER", "--scores", "a"), "is a report"),
        (("no-such.csv", "--scores", "a", "--scores", "b"), "no such file"),
    ],
)
def test_what_cannot_be_planned_is_one_line(arguments, message, tmp_path):
    places = {"TABLE": shutil.copy(TIFA160, tmp_path / "t.csv"), "FOLDER": tmp_path}
    done = call(*[str(places.get(a, a)) for a in arguments], code=2)
    assert message in " ".join(done.stderr.split()), done.stderr
