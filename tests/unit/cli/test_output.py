"""What was scored is not lost when it is written, and acts on no terminal or spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from helpers.benchmarks import toy_benchmark
from helpers.benchmarks.toy_benchmark import Knows, Toys
from helpers.toy import draw_image
from rich.console import Console
from typer.testing import CliRunner

from t2v_eval.cli import console
from t2v_eval.cli.main import app
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import OutputError, T2VWarning, TableError
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs import tables
from t2v_eval.inputs.tables import read_table, to_csv, write_table
from t2v_eval.report.report import Report
from t2v_eval.utils.files import check_file, check_folder, write_text
from t2v_eval.utils.printable import printable

toy_benchmark.register()
ROOT = Path(__file__).parents[3]
EVIL = "\x1b[31mred\x07\r\x9b2J\u202egnp.exe\u2066\u200b\ufeff\udce9[bold]x[/bold]"
ACTING = set("\x1b\x07\r\x9b\u202e\u2066\u200b\ufeff")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What cannot be written where it was wanted goes to the current folder."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1, "x"], ["1", "x"]),
        (["x", 1, None], ["x", "1", None]),
        ([True, "no"], ["true", "no"]),
        ([1.5, [2]], ["1.5", "[2]"]),
        ([2**70, 1], [str(2**70), "1"]),
        ([{"a": 1}, {"a": "x"}], ['{"a": 1}', '{"a": "x"}']),
        ([b"x", "y"], ["\"b'x'\"", "y"]),
        ([[1], [["x"]]], ["[1]", '[["x"]]']),
    ],
)
def test_a_column_of_several_kinds_becomes_text_in_parquet(tmp_path, values, written):
    rows = [{"mixed": value, "score": 0.5} for value in values]
    with pytest.warns(T2VWarning, match="the column 'mixed' holds values of several kinds"):
        write_table(tmp_path / "t.parquet", rows)
    result = read_table(tmp_path / "t.parquet")
    assert [row["mixed"] for row in result] == written
    assert {row["score"] for row in result} == {0.5}
    for name in ("t.csv", "t.jsonl"):
        write_table(tmp_path / name, rows)


def test_columns_of_a_kind_keep_it(tmp_path):
    rows = [{"a": 1, "b": 2.5, "c": "x", "d": [1, 2], "e": None, "f": {"g": "h"}}] * 2
    write_table(tmp_path / "t.parquet", rows)
    assert read_table(tmp_path / "t.parquet") == rows


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_names_that_are_not_utf_8_are_spelt_out(tmp_path, name):
    write_table(tmp_path / name, [{"image": os.fsdecode(b"caf\xe9.png")}])
    assert read_table(tmp_path / name) == [{"image": r"caf\udce9.png"}]


def test_a_score_of_a_file_whose_name_is_not_utf_8(tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9\n\x1b[31m.png")
    draw_image(0).save(name)
    for out in ("t.csv", "t.jsonl", "t.parquet"):
        call(
            "score", "-m", "toy-colours", name, "-t", "a cat", "--no-store", "--out", tmp_path / out
        )
        (row,) = read_table(tmp_path / out)
        assert row["image"].endswith("caf\\udce9\n\x1b[31m.png") and float(row["score"]) > 0
    done = call("score", "-m", "toy-colours", name, "-t", "a cat", "--no-store")
    assert "caf\\udce9" in done.stdout


ROWS = [{"image": "a.png", "score": 0.5, "odd": {1, 2}}, {"image": "b.png", "score": None}]


def rescued(message: str) -> list[dict]:
    path = Path(message.rpartition(" rows are in ")[2])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return rows


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with (
        pytest.raises(OutputError, match="t.csv cannot be written: No such file.*2 rows") as caught,
        tables.rescuing(folder / "t.csv", ROWS),
    ):
        write_table(folder / "t.csv", ROWS)
    assert [row["image"] for row in rescued(str(caught.value))] == ["a.png", "b.png"]
    assert str(tmp_path / "here") in str(caught.value)
    with pytest.raises(OutputError, match="2 rows are in"), tables.rescuing(tmp_path / "t", ROWS):
        raise pyarrow.ArrowInvalid("whatever")


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), ValueError("odd")])
def test_a_command_keeps_its_scores_whatever_the_writer_raises(tmp_path, monkeypatch, raised):
    def refuse(*_):
        raise raised

    monkeypatch.setitem(tables._WRITERS, ".csv", refuse)
    draw_image(0).save(tmp_path / "a.png")
    out = tmp_path / "t.csv"
    arguments = ["-m", "toy-colours", tmp_path / "a.png", "-t", "a cat", "--no-store"]
    done = call("score", *arguments, "--out", out, code=2)
    (row,) = rescued(done.stderr.strip().replace("\n    ", ""))
    assert row["text"] == "a cat" and row["score"] > 0


def test_a_report_keeps_its_scores_whatever_the_writer_raises(tmp_path, monkeypatch):
    report = Report([evaluate(Knows(), Toys(), resamples=10)])
    monkeypatch.setattr("t2v_eval.report.report.markdown.render", lambda *_: 1 / 0)
    with pytest.raises(OutputError, match="division by zero") as caught:
        report.write(tmp_path / "out")
    rows = rescued(str(caught.value))
    assert len(rows) == len(list(report.rows())) and rows[0]["score"] == pytest.approx(0.9)
    assert (tmp_path / "out" / "scores.csv").exists()


def test_a_report_of_odd_names_is_written(tmp_path):
    class Odd(Toys):
        def items(self):
            return [
                replace(item, id=EVIL, tags=(f"| `{EVIL}` <b>\n# x",)) for item in super().items()
            ]

    Report([evaluate(Knows(), Odd(), resamples=10)]).write(tmp_path)
    content = (tmp_path / "report.md").read_text("utf-8")
    assert not ACTING & set(content)
    assert "\n# x" not in content and "<b>" not in content.replace("\\<b\\>", "")
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "a\0b.csv", "../" * 3000 + "t.csv"])
def test_names_that_no_file_can_have_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(OutputError):
        check_file(tmp_path / name)
    with pytest.raises(OutputError):
        check_folder(tmp_path / name / "x")


def test_a_long_name_that_a_file_can_have_is_written(tmp_path):
    name = "x" * 251 + ".csv"
    write_table(check_file(tmp_path / name), [{"a": 1}])
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == [name]


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        if path.name == "pipe":
            os.mkfifo(path)
        with pytest.raises(OutputError, match="is no regular file"):
            check_file(path)


def test_a_full_disk_is_known_before_the_work(tmp_path):
    code = "import resource, signal; from t2v_eval.utils.files import check_folder\n"
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
    code += f"try: check_folder({str(tmp_path)!r})\nexcept OSError as e: print(type(e).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "OutputError\n", done.stderr


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "-x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_in_a_spreadsheet_no_text_is_a_formula(tmp_path, text):
    rows = [{text: text, "score": -0.5, "n": "-3.5", "list": "a;=1+1"}]
    plain = list(csv.reader(io.StringIO(to_csv(rows), newline="")))
    assert plain == [[text, "score", "n", "list"], [text, "-0.5", "-3.5", "a;=1+1"]]
    safe = to_csv(rows, spreadsheet=True)
    assert list(csv.reader(io.StringIO(safe, newline=""))) == [
        [f"'{text}", "score", "n", "list"],
        [f"'{text}", "-0.5", "-3.5", "a;=1+1"],
    ]
    assert '"a;=1+1"' in safe, "quoted, so that no semicolon parts it"


def test_commands_write_for_spreadsheets(tmp_path):
    draw_image(0).save(tmp_path / "a.png")
    arguments = ["-m", "toy-colours", tmp_path / "a.png", "-t", "=1+1"]
    store, out = ("--store", tmp_path / "s.db"), tmp_path / "t.csv"
    call("score", *arguments, *store, "--out", out)
    assert read_table(out)[0]["text"] == "=1+1"
    call("score", *arguments, *store, "--out", out, "--spreadsheet")
    assert read_table(out)[0]["text"] == "'=1+1"
    assert "'=1+1" in call("store", "export", *store, "--spreadsheet").stdout
    call("eval", "-m", "toy-oracle", "-b", "toy-items", "--no-store", "--out", tmp_path / "r",
         "--spreadsheet")  # fmt: skip
    assert '"score"' in (tmp_path / "r" / "scores.csv").read_text()
    refused = call(
        "score", *arguments, *store, "--out", tmp_path / "t.jsonl", "--spreadsheet", code=2
    )
    assert "a table for spreadsheets ends in .csv" in refused.stderr
    with pytest.raises(TableError):
        write_table(tmp_path / "t.parquet", ROWS, spreadsheet=True)


def test_what_a_terminal_would_act_on_is_spelt_out():
    printed = printable(EVIL)
    assert not ACTING & set(printed)
    assert printed.startswith("\\u001b[31mred\\u0007\\u000d".replace("\\u000d", "\\r"))
    fine = "caf\u00e9 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f469\u200d\U0001f467\n\tend"
    assert printable(fine) == fine


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal gets of both streams."""
    stream = io.StringIO()

    def on_terminal(stderr: bool = False) -> Console:
        return Console(file=stream, force_terminal=True, width=400, color_system=None)

    monkeypatch.setattr(console, "console", on_terminal)
    return stream


def test_all_that_the_console_shows_is_plain(terminal):
    console.say(f"one {EVIL}")
    console.print_table([EVIL, "b"], [[EVIL, 3]], EVIL)
    console.say_failures(EVIL, 3, {EVIL: 1})
    console.say_usage(EVIL, {"requests": 1})

    class Odd(Toys):
        def items(self):
            return [replace(item, tags=(EVIL,)) for item in super().items()]

    runs = [evaluate(Knows(wrong), Odd(), resamples=10) for wrong in (0, 3)]
    runs = [
        replace(
            run,
            scorer=replace(run.scorer, name=f"{EVIL}{n}"),
            benchmark=replace(run.benchmark, name=EVIL, note=EVIL),
        )
        for n, run in enumerate(runs)
    ]
    console.print_report(Report(runs))
    with Bars() as bars:
        bars.add(EVIL)
    with console.waiting(EVIL):
        pass
    text = terminal.getvalue()
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[1A", "\x1b[2K", "\r"):  # of a progress bar
        text = text.replace(own, "")
    assert not ACTING & set(text)
    assert "[bold]x[/bold]" in text, "and markup is text"


def test_a_name_of_two_lines_starts_no_line_of_its_own(terminal):
    console.say("error: a.png\nerror: all is well")
    assert terminal.getvalue() == "error: a.png\n    error: all is well\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "-m", EVIL[:-18], "a.png", "-t", "x"],
        ["score", "-m", "toy-colours", "\x1b[2J.png", "-t", "x"],
        ["score", "-m", "toy-colours", "--pairs", "\x1b[2J.csv"],
        ["caption", "a", "b", "\x1b[2J"],
        ["\x1b[2J"],
        ["score", "--\x1b[2J"],
        ["data", "\x1b[2J"],
        ["store", "stats", "--store", "\x1b[2J"],
        ["agree", "\x1b[2J.csv", "--human", "a", "--scores", "b"],
        ["eval", "-m", "toy-oracle", "-b", "\x1b[2J"],
        ["list", "\x1b[2J"],
    ],
)
def test_what_was_typed_does_not_act_on_the_terminal(arguments):
    done = call(*arguments, code=2)
    assert "u001b" in done.output or "x1b" in done.output
    assert "\x1b[2J" not in done.output and "\x1b[31mred" not in done.output


def test_errors_that_nobody_expected_are_plain_too(capsys):
    try:
        raise ValueError("\x1b[2J")
    except ValueError as error:
        console.say_unexpected(type(error), error, error.__traceback__)
    output = capsys.readouterr().err
    assert "Traceback" in output and "\\u001b[2J" in output and "\x1b" not in output


def test_texts_of_odd_names_are_written(tmp_path):
    write_text(tmp_path / "t.json", json.dumps({"a": "\udce9"}, ensure_ascii=False))
    assert json.loads((tmp_path / "t.json").read_text("utf-8")) == {"a": "\udce9"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["agree", "t.csv", "--human", "a", "--scores", "b", "--seed", "-1"], "--seed -1: pass"),
        (["data", "winoground", "--root", "x" * 300], "File name too long"),
        (["score", "-m", f"hf-vlm:{'x' * 300}", "a.png", "-t", "x", "--no-store"], "too long"),
        (["score", "-m", "toy-colours", "x" * 5000, "-t", "x", "--no-store"], "File name too long"),
        (["score", "-m", "toy-colours", "--pairs", "x" * 300 + ".csv"], "too long"),
        (["score", "-m", "toy-colours", "a.png", "-t", "x", "--store", "."], "is a folder"),
    ],
)
def test_what_a_user_mistypes_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    draw_image(0).save("a.png")
    Path("t.csv").write_text("a,b\n1,2\n2,3\n3,1\n")
    done = call(*arguments, code=2)
    assert done.stderr.startswith("error: ") and message in done.stderr, done.stderr


def test_a_table_for_spreadsheets_acts_on_no_terminal(tmp_path, monkeypatch, capsys):
    draw_image(0).save(tmp_path / "a.png")
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    text = EVIL.replace("\udce9", "")
    arguments = ["score", "-m", "toy-colours", str(tmp_path / "a.png"), "-t", text, "--no-store"]
    with pytest.raises(SystemExit, match="0"):
        app([*arguments, "--spreadsheet"])
    printed = capsys.readouterr().out
    assert "red" in printed and not ACTING & set(printed)
