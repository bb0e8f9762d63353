"""Shards, killed or not, merged, give what one run gives, and compute no score twice."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.processes import COMMAND, Forked
from helpers.toy import draw_image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.cli.shards import local_device

TEXTS = ["a cat", "a dog", "two dogs"]
# Writes which image and text each call is about, when its scores are there; waits to be killed
# where WAIT_AT says.
SCORER = """
import os, sys
import numpy as np

calls = []

def brightness(images, texts):
    calls.append(1)
    if os.environ.get("WAIT_AT") == str(len(calls)):
        print("ready", flush=True)
        sys.stdin.read()
    pixels = [np.asarray(image, np.float64) for image in images]
    with open(os.environ["CALLS"], "a") as log:
        for image in pixels:
            for text in texts:
                log.write(f"{image.sum()} {text}\\n")
    return [[image.mean() / 3 + len(text) / 7 for text in texts] for image in pixels]
"""


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A table of 24 images, each with three texts, and a scorer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    (tmp_path / "mine.py").write_text(SCORER)
    with Path("rated.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "text", "human"])
        for n in range(24):
            draw_image(n).save(f"{n}.png")
            table.writerows([f"{n}.png", text, (n * len(text)) % 5] for text in TEXTS)
    return tmp_path


COMMON = "-m mine.py:brightness --option version=1 --batch-size 2 -q".split()
EVAL = ["eval", *COMMON, "-b", "rated.csv", "--resamples", "5", "--no-noise-floor"]


def computed(path=Path("calls")):
    """How often each image and text was scored."""
    times = Counter(path.read_text().splitlines()) if path.exists() else Counter()
    path.unlink(missing_ok=True)
    return times


def read_csv(path):
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def kill_in_the_middle(*arguments):
    process = Forked(COMMAND, arguments, cwd=Path.cwd(), env={**os.environ, "WAIT_AT": "3"})
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shards_and_one_run_write_the_same_scores(folder, count):
    call(*EVAL, "--no-store", "--out", "one")
    cells = computed()
    assert len(cells) == 72
    if count == 2:
        kill_in_the_middle(*EVAL, "--store", "s.sqlite", "--shard", "1/2")
    scores = 0
    for number in range(1, count + 1):
        shard = f"{number}/{count}"
        result = json.loads(call(*EVAL, "--store", "s.sqlite", "--shard", shard, "--json").stdout)
        (run,) = result["runs"]
        assert result["shard"] == shard
        assert (run["failed"], run["reused"]) == (0, 12 if (count, number) == (2, 1) else 0)
        scores += run["scores"]
    assert scores == 72
    assert computed() == cells, "each once, also those before the kill"
    assert not Path("s.sqlite").exists()
    call("store", "merge", "s.sqlite", *sorted(folder.glob(f"s-*-of-{count}.sqlite")))
    call(*EVAL, "--store", "s.sqlite", "--out", "merged")
    assert computed() == {}
    assert Path("merged/scores.csv").read_bytes() == Path("one/scores.csv").read_bytes()


def test_a_table_of_a_shard_has_its_rows_and_says_which(folder):
    score = ["score", *COMMON, "--pairs", "rated.csv", "--store", "s.sqlite"]
    call(*score, "--out", "all.csv", "--no-store")
    rows = []
    for number in (1, 2):
        # The same command for all, but for the number.
        call(*score, "--shard", f"{number}/2", "--out", "scores.csv")
        of_shard = read_csv(f"scores-{number}-of-2.csv")
        assert {row.pop("shard") for row in of_shard} == {f"{number}/2"}
        rows.append(of_shard)
    whole = read_csv("all.csv")
    order = [(row["image"], row["text"]) for row in whole]
    both = sorted([*rows[0], *rows[1]], key=lambda row: order.index((row["image"], row["text"])))
    assert both == whole
    assert not Path("scores.csv").exists()
    assert not {row["image"] for row in rows[0]} & {row["image"] for row in rows[1]}


def test_the_command_that_merges_can_be_run_as_it_is_printed(folder):
    Path("my runs").mkdir()
    common = ["score", *COMMON[:-1], "0.png", "1.png", "-t", "a cat", "--store"]
    name = "my runs/it's scores.sqlite"
    for number in (1, 2):
        printed = call(*common, name, "--shard", f"{number}/2").stderr
    command = re.search("t2v-eval (store merge .*), then this command", " ".join(printed.split()))
    words = subprocess.run(
        ["sh", "-c", f'printf "%s\\n" {command[1]}'], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "2 scores" in call(*words).stdout
    assert Path(name).is_file()


def test_a_shard_without_images_is_no_failure(folder):
    arguments = ["score", *COMMON, "0.png", "-t", "a cat", "--store", "s.sqlite", "--json"]
    rows = [json.loads(call(*arguments, "--shard", f"{n}/3").stdout) for n in (1, 2, 3)]
    assert sorted(map(len, rows)) == [0, 0, 1]


def test_what_a_shard_cannot_do_is_said_before_a_model_is_loaded(folder):
    for extra, message in (
        (["--shard", "3/2"], "--shard 3/2: of 2 shards, the first is 1/2"),
        (["--shard", "1/2", "--no-store"], "leave out --no-store"),
        (["--shard", "1/2", "--out", "report"], "a shard has no report"),
        (["--shard", "1/2", "--dry-run"], "leave out --shard"),
        (["--shard", "auto"], "--shard auto: no launcher"),
        (["--shard", "1/2", "--store", ""], "'.' is a folder: write the name of a file"),
        (["--shard", "1/2", "--store", "/"], "'/' is a folder: write the name of a file"),
        (["--shard", "1/2", "--store", "a/.."], "'a/..' is a folder: write the name of a file"),
    ):
        result = call(*EVAL, "--store", "s.sqlite", *extra, code=2)
        assert message in " ".join(result.stderr.split())
    assert computed() == {}


def test_workers_of_a_machine_take_its_gpus_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("auto") == "cuda:1"
    assert local_device("2/7") is None and local_device(None) is None
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local_device("auto") is None


def test_features_of_shards_are_found_by_the_distance(folder):
    distance = "distance --images . --reference . --metric kid --resamples 5 --cache c -q --json"
    counts = [
        json.loads(call(*distance.split(), "--shard", f"{n}/2").stdout)["folders"][0]
        for n in (1, 2, 2)
    ]
    assert counts[0]["extracted"] + counts[1]["extracted"] == 24
    assert (counts[2]["extracted"], counts[2]["reused"]) == (0, counts[1]["extracted"])
    files = {path.name for path in Path("c").iterdir()}
    merged = json.loads(call(*distance.split()).stdout)
    assert merged["pairs"][0]["counts"]["images"] == 24
    assert len(files) == 2 and len(list(Path("c").iterdir())) == 1
    result = call(*distance.split(), "--shard", "1/2", "--no-cache", code=2)
    assert "--no-cache" in result.stderr
    cached = "distance --images . --reference . --metric kid --cache".split()
    for more in ([], ["--shard", "1/2"]):
        stderr = call(*cached, "rated.csv", *more, code=2).stderr
        assert "rated.csv is a file, not a folder; choose another --cache" in stderr
