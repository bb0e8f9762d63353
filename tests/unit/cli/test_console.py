"""What a long run says while it runs: every word in a terminal, and nothing where there is none."""

import os
import re
import sys

import pytest
from helpers.benchmarks import toy_benchmark
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.processes import Forked

from t2v_eval.cards import BenchmarkCard
from t2v_eval.cli import console
from t2v_eval.cli.main import main
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import compare

CODE = """
from helpers.benchmarks import toy_benchmark
from t2v_eval.cli.main import main
from t2v_eval.registry import benchmarks
toy_benchmark.register()
benchmarks.register("toy-broken")(lambda **options: toy_benchmark.Toys(broken=2, **options))
main()
"""


ARGUMENTS = ["eval", "-m", "toy-oracle", "-b", "toy-broken", "--on-error", "skip"]


def run(store, columns):
    """stderr of an evaluation in a terminal of so many columns."""
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    try:
        process = Forked(CODE, [*ARGUMENTS, "--store", store], env=env, stderr=theirs)
        os.close(theirs)
        output = b""
        while True:
            try:
                some = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not some:
                break
            output += some
        assert process.wait() == 0
    finally:
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode())


def test_a_terminal_is_told_all_of_it(tmp_path):
    output = run(tmp_path / "store.db", columns=80)
    last = [line for line in re.split(r"[\r\n]+", output) if "48/48 scores" in line][-1]
    assert "━" in last and "toy-oracle on toy-broken, 12 items" in output
    assert re.search(r"0:00:00 left +[\d.]+/s, 4 failed", last) and "reused" not in last
    again = run(tmp_path / "store.db", columns=80)
    assert "0.0/s, 44 reused, 4 failed" in again, "what failed is tried again"
    assert "4 of 48 scores failed and are left out" in again


def test_a_file_is_not(tmp_path, monkeypatch):
    benchmarks.register("toy-broken")(lambda **options: toy_benchmark.Toys(broken=2, **options))
    monkeypatch.setattr(sys, "argv", ["t2v-eval", *ARGUMENTS, "--no-store"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which `main` replaces
    with (tmp_path / "errors.txt").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    output = (tmp_path / "errors.txt").read_text()
    assert "4 of 48 scores failed and are left out" in output and "4 x not an image" in output
    assert (
        "━" not in output and "left " not in output.replace("left out", "") and "\x1b" not in output
    )


def test_a_report_is_written_though_nobody_reads_what_is_printed(tmp_path):
    out = tmp_path / "report"
    command = ["eval", "--model", "toy-oracle", "--benchmark", "toy-items", "--no-store"]
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        Forked(CODE, [*command, "--out", out], stdout=theirs).communicate()
    finally:
        os.close(theirs)
    assert (out / "report.html").is_file()


def test_tables_say_what_failed_what_was_published_and_what_metrics_are(capsys):
    figures = {"right": {"Knows": 0.987, "source": "a paper, table 1"}}

    class Explained(toy_benchmark.Toys):
        meanings = {"right": "the share of items that are right, 0 to 1"}  # noqa: RUF012

    benchmark = Explained(
        broken=2, card=BenchmarkCard("toys", "Explained", "judged", published=figures)
    )
    report = compare([toy_benchmark.Knows(on_error="skip")], [benchmark], resamples=5)
    console.print_report(report)
    output = capsys.readouterr().out
    assert "Knows (failed on 4)" in output and "44 of 48" in output
    assert "published 0.987" in output and "published right on toys: a paper, table 1" in output
    assert "right: the share of items that are right, 0 to 1" in output
