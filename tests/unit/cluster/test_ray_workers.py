"""Workers of Ray: what is refused before Ray starts; and with Ray, real processes that are killed.

The tests with Ray are skipped where it is not installed, as in the environment of
`constraints.txt`, and take about three minutes. To run them: ``pip install 't2v-eval[cluster]'``
and ``pytest tests/unit/cluster``.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from helpers.processes import HANGING
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.api import ScorerOptions
from t2v_eval.cli.main import app
from t2v_eval.cluster import ray_workers
from t2v_eval.cluster.engine import EngineOptions, RayEngine
from t2v_eval.cluster.ray_workers import RayOptions
from t2v_eval.errors import InputError, T2VWarning
from t2v_eval.registry import models

ROOT = Path(__file__).parents[3]
TEXTS = ["a cat", "a dog", "two dogs"]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra `cluster`"
)
# Writes what it scores when the scores are there. With BAD=N, ends its process over image N; with
# HOLD, tells its process and waits to be killed at the third call, once.
SCORER = """
import os, time
from pathlib import Path
import numpy as np

if os.environ.get("DIES_LOADING"):
    os.kill(os.getpid(), 9)
if os.environ.get("RAISES_LOADING"):
    raise OSError("no such weights")
calls = []

def brightness(images, texts):
    calls.append(1)
    if os.environ.get("HOLD") and len(calls) == 3:
        try:
            with open("holding", "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            pass
        else:
            time.sleep(1e6)
    pixels = [np.asarray(image, np.float64) for image in images]
    if os.environ.get("BAD") in [str(image.sum()) for image in pixels]:
        os.kill(os.getpid(), 9)
    with open("calls", "a") as log:
        for image in pixels:
            for text in texts:
                log.write(f"{os.getpid()} {image.sum()} {text}\\n")
    return [[image.mean() / 3 + len(text) / 7 for text in texts] for image in pixels]
"""
COMMON = "-m mine.py:brightness --option version=1 --batch-size 1".split()
EVAL = ["eval", *COMMON, "-b", "rated.csv", "--resamples", "5", "--no-noise-floor"]
RAY = ["--engine", "ray", "--workers", "2"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A table of 24 images, each with three texts, and a scorer."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SCORER)
    with Path("rated.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "text", "human"])
        for n in range(24):
            draw_image(n).save(f"{n}.png")
            table.writerows([f"{n}.png", text, (n * len(text)) % 5] for text in TEXTS)
    return tmp_path


def start(*arguments, **environment):
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "t2v_eval", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        start_new_session=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=HANGING)
    assert process.returncode == code, out + err
    return err


def run(*arguments, code=0, **environment):
    return finish(start(*arguments, **environment), code)


def computed():
    """How often each image and text was scored, and by how many processes."""
    rows = [line.partition(" ") for line in Path("calls").read_text().splitlines()]
    Path("calls").unlink()
    return Counter(what for _, _, what in rows), len({pid for pid, _, _ in rows})


def held_process(driver):
    """Wait until a worker holds, and return its process."""
    paused = threading.Event()
    while not (Path("holding").exists() and Path("holding").read_text()):
        assert driver.poll() is None, driver.communicate()
        paused.wait(0.1)
    return int(Path("holding").read_text())


def sum_of(n):
    return str(float(sum(draw_image(n).tobytes())))


@needs_ray
def test_workers_of_which_one_is_killed_write_what_one_process_writes(folder):
    run(*EVAL, "--no-store", "--out", "one")
    cells, processes = computed()
    assert (len(cells), processes) == (72, 1)
    driver = start(*EVAL, *RAY, "--store", "s.sqlite", "--out", "ray", HOLD="1")
    os.kill(held_process(driver), signal.SIGKILL)
    finish(driver)
    again, processes = computed()
    assert again == cells, "each once"
    assert processes >= 2
    assert Path("ray/scores.csv").read_bytes() == Path("one/scores.csv").read_bytes()
    run(*EVAL, "--store", "s.sqlite", "--out", "stored")
    assert not Path("calls").exists()
    assert Path("stored/scores.csv").read_bytes() == Path("one/scores.csv").read_bytes()


@needs_ray
def test_two_runs_with_workers_share_a_store_and_read_images_at_addresses(folder):
    run(*EVAL, "--no-store", "--out", "one")
    shared = [*EVAL, "--engine", "ray", "--workers", "1", "--store", "s.sqlite"]
    both = [start(*shared, "--out", out) for out in ("first", "second")]
    for driver in both:
        finish(driver)
    address = ["--root", f"file://{folder}", "--option", "allow_urls=any", "--out", "third"]
    run(*EVAL, *RAY, "--no-store", *address)
    values = []
    for out in ("one", "first", "second", "third"):
        with Path(out, "scores.csv").open(newline="") as stream:
            values.append([row["score"] for row in csv.DictReader(stream)])
    assert values[1:] == [values[0]] * 3


@needs_ray
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_no_process_and_goes_on(folder, end):
    driver = start(*EVAL, *RAY, "--store", "s.sqlite", HOLD="1")
    worker = held_process(driver)
    if end == signal.SIGINT:
        os.killpg(driver.pid, end)  # as a terminal does
        assert "finished scores are stored in s.sqlite" in finish(driver, 130)
    else:
        driver.kill()
        driver.communicate()
    paused = threading.Event()
    for _ in range(600):
        if not Path(f"/proc/{worker}").exists():
            break
        paused.wait(0.1)
    assert not Path(f"/proc/{worker}").exists()
    assert computed()[0], "the other worker scored"
    run(*EVAL, "--store", "s.sqlite", "--out", "rest")
    cells, _ = computed()
    assert 0 < len(cells) < 72, "what was stored is not computed again"


@needs_ray
def test_an_image_that_ends_workers_fails_alone(folder):
    error = run(*EVAL, *RAY, "--store", "s.sqlite", "--on-error", "skip", BAD=sum_of(5))
    assert re.search(r"5\.png.*3 workers ended over it \(its process was killed or crashed", error)
    cells, _ = computed()
    assert len(cells) == 69
    assert set(cells.values()) == {1}


@needs_ray
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("RAISES_LOADING", "no such weights"),
        ("DIES_LOADING", "3 workers in a row ended while they loaded the scorer"),
    ],
)
def test_a_scorer_that_cannot_be_loaded_ends_the_run(folder, variable, message):
    assert message in run("score", *COMMON, *RAY, "0.png", "-t", "a cat", code=2, **{variable: "1"})


@needs_ray
def test_too_few_cpus_are_said_at_once(folder):
    error = run("score", *COMMON, "0.png", "-t", "a", "--engine", "ray", "--workers", "999", code=2)
    assert re.search(r"--workers 999: Ray has \d+ CPUs?, and each worker needs 1: use \d+", error)


@pytest.mark.parametrize(
    ("options", "has", "resolved"),
    [
        ({}, (8, 0), (8, 0)),
        ({}, (1, 0), (1, 0)),
        ({}, (32, 4), (4, 1)),
        ({}, (2, 4), (2, 1)),
        ({"gpus_per_worker": 0.5}, (32, 2), (4, 0.5)),
        ({"gpus_per_worker": 2}, (32, 4), (2, 2)),
        ({"gpus_per_worker": 0}, (3, 4), (3, 0)),
        ({"workers": 2}, (2, 0), (2, 0)),
        ({"workers": 2, "gpus_per_worker": 0.1}, (8, 1), (2, 0.1)),
        ({"workers": 3}, (2, 0), "`workers=3`: Ray has 2 CPUs, and each worker needs 1: use 2 or"),
        ({"workers": 2}, (1, 0), "`workers=2`: Ray has 1 CPU, and each worker needs 1: use 1 or"),
        ({"workers": 3}, (8, 2), "`gpus_per_worker=1`: 3 workers would need 3 GPUs, and Ray has 2"),
        ({"gpus_per_worker": 1}, (8, 0), "1 worker would need 1 GPU, and Ray has 0"),
        ({}, (0, 0), "`workers=1`: Ray has 0 CPUs"),
    ],
)
def test_workers_fit_into_what_ray_has(options, has, resolved):
    if isinstance(resolved, tuple):
        assert RayOptions(**options).resolve(*has) == resolved
    else:
        with pytest.raises(InputError, match=re.escape(resolved)):
            RayOptions(**options).resolve(*has)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": float("nan")},
        {"gpus_per_worker": "all"},
        {"ray_address": "ray://host:10001"},
    ],
)
def test_options_that_no_cluster_fits_are_refused(options):
    (name,) = options
    with pytest.raises(InputError, match=f"`{name}="):
        RayEngine(**options)


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    return result.output


def test_flags_that_do_not_go_together_are_refused_before_ray_starts(folder, monkeypatch):
    monkeypatch.setattr(ray_workers, "_import_ray", None)
    score = ["score", *COMMON, "0.png", "-t", "a cat"]
    assert "--workers 2 is of workers of Ray: add --engine ray" in call(*score, "--workers", 2)
    assert "--shard 1/2 is for workers" in call(*score, *RAY, "--shard", "1/2")
    assert "--workers 0: use a whole number" in call(*score, "--engine", "ray", "--workers", 0)
    assert "gone.png: no such file" in call("score", *COMMON, "gone.png", "-t", "a", *RAY)


def test_without_ray_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = call("score", *COMMON, "0.png", "-t", "a cat", *RAY)
    assert "--engine ray needs Ray: pip install 't2v-eval[cluster]'" in message


def test_a_scorer_that_asks_a_service_does_not_start_ray(monkeypatch):
    monkeypatch.setattr(ray_workers, "_import_ray", None)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    options = EngineOptions.on(RayEngine(workers=2), ScorerOptions(max_requests=1))
    with pytest.warns(T2VWarning, match="'gpt-4o' asks a service"):
        assert options.load(models.card("gpt-4o")).name == "gpt-4o"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9"])
def test_an_address_where_nothing_listens_is_said_at_once(address):
    with pytest.raises(OSError):
        ray_workers._check_reachable(address)
