"""Bars in Python: where a person watches, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from helpers.benchmarks.toy_benchmark import Toys
from helpers.toy import ToyEmbedding, draw_image

import t2v_eval
from t2v_eval.scoring import progress as module
from t2v_eval.scoring.progress import is_watched, reporting
from t2v_eval.scoring.results import CellCounts

IMAGES, TEXTS = [draw_image(seed) for seed in range(3)], ["a cat", "two dogs"]


class Terminal(io.StringIO):
    """A stream that a person watches."""

    def isatty(self) -> bool:
        return True


def watch(monkeypatch) -> Terminal:
    """Make standard error a terminal, on which bars appear at once.

    A fixture could not: pytest sets its own stream when a test begins.
    """
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "DELAY", 0)
    return terminal


def test_a_bar_in_a_terminal(monkeypatch):
    stream = watch(monkeypatch)
    ToyEmbedding(device="cpu")(IMAGES, TEXTS)
    assert "ToyEmbedding: 100%" in stream.getvalue() and "6/6" in stream.getvalue()


def test_evaluate_and_compare_name_scorer_and_benchmark(monkeypatch):
    stream = watch(monkeypatch)
    scorer, benchmark = ToyEmbedding(device="cpu"), Toys()
    t2v_eval.evaluate(scorer, benchmark, resamples=5)
    t2v_eval.compare(scorer, benchmark, resamples=5)
    assert stream.getvalue().count(f"ToyEmbedding on {benchmark.name}: 100%") == 2


def test_false_switches_it_off(monkeypatch):
    stream = watch(monkeypatch)
    scorer, benchmark = ToyEmbedding(device="cpu"), Toys()
    scorer(IMAGES, TEXTS, progress=False)
    scorer.score_pairs(IMAGES[:2], TEXTS, progress=False)
    scorer.batch_forward([{"images": IMAGES, "texts": TEXTS}], progress=False)
    t2v_eval.evaluate(scorer, benchmark, resamples=5, progress=False)
    t2v_eval.compare(scorer, benchmark, resamples=5, progress=False)
    assert stream.getvalue() == ""


def test_a_call_that_takes_no_time_shows_none(monkeypatch):
    stream = watch(monkeypatch)
    monkeypatch.setattr(module, "DELAY", 60)
    ToyEmbedding(device="cpu")(IMAGES, TEXTS)
    assert stream.getvalue() == ""


def test_silent_where_nobody_watches(capsys, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0)
    scorer = ToyEmbedding(device="cpu")
    scorer(IMAGES, TEXTS)
    assert capsys.readouterr() == ("", "")
    scorer(IMAGES, TEXTS, progress=True)
    assert "6/6" in capsys.readouterr().err


def test_a_function_gets_the_counts():
    seen: list[CellCounts] = []
    ToyEmbedding(device="cpu")(IMAGES, TEXTS, progress=seen.append)
    assert seen[0].computed == 0 and seen[-1].computed == seen[-1].cells == 6


def test_stored_and_failed_scores_are_told(monkeypatch):
    stream = watch(monkeypatch)
    with reporting(None, "mine") as report:
        report(CellCounts(cells=10, reused=4))
        report(CellCounts(cells=10, reused=4, computed=5, failed=1))
    last = stream.getvalue().split("\r")[-1]
    assert "10/10" in last and "reused=4" in last and "failed=1" in last


def test_a_bar_is_closed_when_a_call_fails(monkeypatch):
    stream = watch(monkeypatch)
    with pytest.raises(RuntimeError, match="stop"), reporting(None, "mine") as report:
        report(CellCounts(cells=10, computed=2))
        raise RuntimeError("stop")
    assert stream.getvalue().endswith("\n")


def test_a_notebook_is_watched(monkeypatch):
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not is_watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert is_watched()
    shell.config = {"TerminalIPythonApp": {}}
    assert not is_watched()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not is_watched()
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_watched()
