"""Ctrl-C and SIGTERM: what is finished is kept, a line says so, and the exit code is the shell's.

The processes tell when they have come so far, or the server does: nothing here sleeps.
"""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from helpers.processes import COMMAND, Forked, wait_for
from helpers.services.ask_server import Spoken, needs_gemini
from helpers.services.loopback import Server
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.utils.interrupts import Terminated, sigterm_raises, stop_of, stops_call

SIGNALS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
KEYS = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
ADDRESSES = {"openai": "OPENAI_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}
NAMES = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}

# Says when it has committed something for the first time, and then waits to be stopped.
HALTING = f"""
import threading
from t2v_eval.store import Store
whole = Store.put_cells
def put_cells(self, *arguments):
    whole(self, *arguments)
    print("committed", flush=True)
    threading.Event().wait()
Store.put_cells = put_cells
{COMMAND}
"""

LOADING = f"""
import threading, t2v_eval.api
def load(*_, **__):
    print("committed", flush=True)
    threading.Event().wait()
t2v_eval.api.ScorerOptions.load = load
{COMMAND}
"""


@pytest.fixture
def command(tmp_path):
    """A command about ten images, whose scores go to a store."""
    files = [tmp_path / f"{n}.png" for n in range(10)]
    for n, file in enumerate(files):
        draw_image(n).save(file)
    store = ["--store", tmp_path / "s.db"]
    return ["score", *files, "-t", "a cat", "-t", "a dog", *store, "--out", tmp_path / "o.csv"]


def start(code, arguments, **environment):
    return Forked(code, arguments, env=os.environ | environment)


def run_again(arguments, **environment):
    done = CliRunner().invoke(app, [*map(str, arguments)], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr


def check_line(process, err, stop, store):
    word, code = SIGNALS[stop]
    assert process.returncode == code, err
    message = (
        f"{word}; finished scores are stored in {store}; run the same command again to continue"
    )
    assert [line for line in err.splitlines() if word in line] == [message]
    assert "Traceback" not in err


def scored(store):
    return [row for row in t2v_eval.Store(store).rows() if row.value is not None]


@pytest.mark.parametrize(
    ("service", "stop"),
    [("openai", signal.SIGINT), pytest.param("gemini", signal.SIGTERM, marks=needs_gemini)],
)
def test_a_run_over_a_service(stop, service, command, tmp_path):
    spoken = Spoken(service)
    last = threading.Event()

    def behave(request):
        if request.number <= 7:
            return spoken.right(request)
        last.set()
        return spoken.FAULTS["hang"]()

    with Server(behave) as server:
        environment = {KEYS[spoken.name]: "k", ADDRESSES[spoken.name]: server.address + spoken.path}
        asking = [*command, "-m", NAMES[spoken.name], "--option", "concurrency=1"]
        process = start(COMMAND, asking, **environment)
        wait_for(last, process)
        process.send_signal(stop)
        _, err = process.communicate()
        check_line(process, err, stop, tmp_path / "s.db")
        assert len(scored(tmp_path / "s.db")) == 7
        server.behave = spoken.right
        before = len(server.requests)
        run_again(asking, **environment)
        assert len(server.requests) - before == 20 - 7
    assert len(scored(tmp_path / "s.db")) == 20


def test_a_batch(command, tmp_path):
    spoken, stop = Spoken("openai"), signal.SIGTERM
    batches = spoken.BatchService(looks=10**6)
    looked = threading.Event()

    def behave(request):
        reply = batches(request)
        if request.method == "GET" and batches.batches:
            looked.set()
        return reply

    with Server(behave) as server:
        environment = {KEYS[spoken.name]: "k", ADDRESSES[spoken.name]: server.address + spoken.path}
        asking = [*command, "-m", NAMES[spoken.name], "--batch", "--option", "poll=0.01"]
        process = start(COMMAND, asking, **environment)
        wait_for(looked, process)
        process.send_signal(stop)
        _, err = process.communicate()
        check_line(process, err, stop, tmp_path / "s.db")
        next(iter(batches.batches.values()))["looks"] = 1
        run_again(asking, **environment)
    assert len(batches.batches) == 1 and len(scored(tmp_path / "s.db")) == 20


@pytest.mark.parametrize(
    ("name", "stop"), [("tiny-clip", signal.SIGTERM), ("tiny-clip-flant5", signal.SIGINT)]
)
def test_a_model_that_runs_here(stop, name, command, tmp_path):
    asking = [*command, "-m", name, "--batch-size", "2"]
    process = start(HALTING, asking)
    assert process.stdout.readline() == "committed\n"
    process.send_signal(stop)
    _, err = process.communicate()
    check_line(process, err, stop, tmp_path / "s.db")
    assert scored(tmp_path / "s.db")
    stored = {(row.image, row.text): row.value for row in scored(tmp_path / "s.db")}
    run_again(asking)
    rows = {(row.image, row.text): row.value for row in scored(tmp_path / "s.db")}
    assert len(rows) == 20 and stored.items() <= rows.items()


def test_eval(tmp_path):
    stop = signal.SIGINT
    arguments = ["eval", "-m", "tiny-clip", "-b", "scenes", "--benchmark-option", "n=20"]
    arguments += ["--store", tmp_path / "s.db", "--out", tmp_path / "out"]
    process = start(HALTING, arguments)
    assert process.stdout.readline() == "committed\n"
    process.send_signal(stop)
    _, err = process.communicate()
    check_line(process, err, stop, tmp_path / "s.db")
    finished = len(scored(tmp_path / "s.db"))
    assert finished
    run_again(arguments)
    counts = json.loads((tmp_path / "out/report.json").read_text())["runs"][0]["counts"]
    assert (counts["reused"], counts["computed"]) == (finished, 80 - finished)


def test_a_run_without_a_store():
    stop = signal.SIGTERM
    alone = ["score", "x.png", "-t", "a", "-m", "tiny-clip", "--no-store", "--on-error", "skip"]
    process = start(LOADING, alone)
    assert process.stdout.readline() == "committed\n"
    process.send_signal(stop)
    _, err = process.communicate()
    word, code = SIGNALS[stop]
    assert process.returncode == code
    assert f"{word}; without a store, finished scores are lost" in err and "Traceback" not in err


def test_what_handles_signals_already_is_left_alone():
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        ours = signal.getsignal(signal.SIGTERM)
        with sigterm_raises(), stops_call(lambda error: None):
            assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, mine)
    with stops_call(lambda error: None):
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "a library's user decides"


def test_the_first_signal_calls_and_the_second_strikes():
    called = []
    with sigterm_raises(), stops_call(called.append):
        signal.raise_signal(signal.SIGTERM)
        assert called == [Terminated]
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert json.dumps([stop_of(KeyboardInterrupt()), stop_of(Terminated())]) == (
        '[["interrupted", 130], ["terminated", 143]]'
    )
