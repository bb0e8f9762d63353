"""Lines of progress where stderr is no terminal, and --quiet."""

import json

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli import console
from t2v_eval.cli.main import app
from t2v_eval.cli.progress import Bars, Lines, duration
from t2v_eval.scoring.results import CellCounts


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def printed(capsys):
    return capsys.readouterr().err.splitlines()


def test_a_line_after_each_ten_seconds_and_each_five_percent(capsys):
    clock = Clock()
    lines = Lines("clip on set", clock)
    lines.update(CellCounts(cells=1000, computed=0))
    clock.now = 9.0
    lines.update(CellCounts(cells=1000, computed=90))
    assert printed(capsys) == [], "9 % after 9 seconds"
    clock.now = 10.0
    lines.update(CellCounts(cells=1000, computed=98))
    assert printed(capsys) == ["clip on set: 98/1000 scores (10 %), 9.8/s, 1 min 32 s left"]
    clock.now = 10.5
    lines.update(CellCounts(cells=1000, computed=100))
    assert printed(capsys) == [], "half a second later"
    clock.now = 12.5
    lines.update(CellCounts(cells=1000, computed=150))
    assert printed(capsys) == ["clip on set: 150/1000 scores (15 %), 12.0/s, 1 min 11 s left"]
    clock.now = 22.0
    lines.update(CellCounts(cells=1000, computed=160))
    assert printed(capsys) == []
    clock.now = 25.0
    lines.update(CellCounts(cells=1000, computed=160, reused=5, failed=1))
    assert printed(capsys) == [
        "clip on set: 166/1000 scores (17 %), 5 reused, 1 failed, 6.4/s, 2 min 10 s left"
    ]


def test_a_run_of_less_than_ten_seconds_prints_nothing(capsys):
    clock = Clock()
    lines = Lines("clip", clock)
    for done in range(0, 101, 5):
        clock.now = done / 10.1
        lines.update(CellCounts(cells=100, computed=done))
    assert printed(capsys) == []


def test_a_model_that_takes_long_is_seen_to_run(capsys):
    clock = Clock()
    lines = Lines("clip", clock)
    clock.now = 9.0
    lines.tick()
    assert printed(capsys) == []
    clock.now = 10.0
    lines.tick()
    assert printed(capsys) == ["clip: no scores yet, 10 s"]
    lines.update(CellCounts(cells=4, computed=1))
    assert printed(capsys) == []
    clock.now = 20.0
    lines.tick()
    assert printed(capsys) == ["clip: 1/4 scores (25 %), 0.1/s, 1 min 0 s left"]
    lines.update(CellCounts(cells=4, computed=4))
    clock.now = 90.0
    lines.tick()
    assert printed(capsys) == [], "a finished run says no more"


def test_the_next_run_ends_the_lines_of_the_one_before(capsys):
    clock = Clock()
    with Bars(clock) as bars:
        bars.add("first")(CellCounts(cells=2, computed=1))
        second = bars.add("second")
        clock.now = 10.0
        second(CellCounts(cells=2, computed=1))
    assert printed(capsys) == ["second: 1/2 scores (50 %), 0.1/s, 10 s left"]


def test_quiet_prints_no_lines(capsys):
    clock = Clock()
    with console.quieting(True), Bars(clock) as bars:
        update = bars.add("first")
        clock.now = 60.0
        update(CellCounts(cells=2, computed=1))
        console.note("a note")
        console.say("an error", "red")
    assert printed(capsys) == ["an error"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min"), (86400, "24 h 0 min")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_quiet_leaves_results_and_errors(tmp_path):
    draw_image(0).save(tmp_path / "a.png")  # of a size that tiny-clip warns of
    common = ["score", "-m", "tiny-clip", "-t", "x", "--no-store", str(tmp_path / "a.png")]
    out = ["--out", str(tmp_path / "s.csv")]
    loud, quiet = (CliRunner().invoke(app, [*common, *out, *more]) for more in ([], ["-q"]))
    assert "warning" in loud.stderr and "1 scores are in" in loud.stderr
    assert (quiet.exit_code, quiet.output) == (0, "")
    missing = CliRunner().invoke(app, [*common, "--quiet", "nowhere.png"])
    assert missing.exit_code == 2 and "no such file" in missing.stderr
    printed = CliRunner().invoke(app, [*common, "--quiet", "--json"])
    assert [row["text"] for row in json.loads(printed.stdout)] == ["x"]
