"""``t2v-eval judge``: both orders, failures that are no ties, limits, and runs that go on."""

import base64
import csv
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import HANGING, wait_for
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import FAULTS, sampled
from PIL import Image
from typer.testing import CliRunner

from t2v_eval.cli.main import app

ROOT = Path(__file__).parents[4]
PROMPTS = ["a cat", "a dog", "a cow", "a hen"]
LEVELS = {"dark": 40, "middle": 120, "bright": 200}  # of the images of each generator


@pytest.fixture
def study(tmp_path):
    """Prompts, and images of three generators that differ in brightness."""
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    for name, level in LEVELS.items():
        (tmp_path / name).mkdir()
        for n in range(len(PROMPTS)):
            Image.new("RGB", (48, 48), (level + n,) * 3).save(tmp_path / name / f"{n}.png")
    return tmp_path


def brightness(url):
    data = base64.b64decode(url.partition(",")[2])
    return float(np.asarray(Image.open(io.BytesIO(data)).convert("L")).mean())


def levels(request):
    parts = request.body["messages"][0]["content"]
    return [brightness(p["image_url"]["url"]) for p in parts if p["type"] == "image_url"]


def brighter(request):
    first, second = levels(request)
    return Reply(sampled("A" if first > second else "B"))


def arguments(study, server, *more, folders=LEVELS):
    images = [word for name in folders for word in ("--images", study / name)]
    return [
        *("judge", "-m", "gpt-4o-preference", "-b", study / "prompts.txt", *images),
        *("--option", f"base_url={server.url}", "--option", "api_key=k"),
        *("--option", "backoff=0.01", "--out", study / "battles.csv"),
        *("--store", study / "s.db", *more),
    ]


def call(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


def rows_of(study):
    with (study / "battles.csv").open(newline="") as stream:
        return [*csv.DictReader(stream)]


def rank(study, *more, code=0):
    words = ("rank", study / "battles.csv", "--json", "--resamples", 20, *more)
    return json.loads(call(*words, code=code).stdout)


def test_a_judge_that_knows(study):
    with Server(brighter) as server:
        done = call(*arguments(study, server))
        assert len(server.requests) == 2 * 3 * len(PROMPTS)
    rows = rows_of(study)
    assert len(rows) == 3 * len(PROMPTS)
    for row in rows:
        better = max(row["model_a"], row["model_b"], key=LEVELS.get)
        assert row[row["winner"]] == better and row["prompt"] in PROMPTS
        assert row["a_first"] == row["b_first"] == row["winner"]
        assert (row["judge"], row["error"]) == ("gpt-4o-preference", "")
        assert Path(row["image_a"]).parent.name == row["model_a"]
    assert "bright won 8, middle won 4, dark won 0; 0 ties" in done.stderr
    content = rank(study, "--prior", "normal")
    assert [*content["models"]] == ["bright", "middle", "dark"]
    assert content["position"]["value"] == 0.5, "in both orders, each side wins once"
    assert content["judges"]["gpt-4o-preference"]["self_consistency"]["value"] == 1.0


def test_a_judge_of_sides_alone(study):
    with Server(lambda request: Reply(sampled("A"))) as server:
        done = call(*arguments(study, server))
    assert {row["winner"] for row in rows_of(study)} == {"tie"}
    assert "12 ties (12 of them by verdicts that differ with the order)" in done.stderr
    content = rank(study)
    assert content["position"]["value"] == 1.0 and content["position"]["battles"] == 24
    assert content["judges"]["gpt-4o-preference"]["self_consistency"]["value"] == 0.0


def test_an_answer_that_cannot_be_read_is_no_tie(study):
    def unreadable(request):
        pair = levels(request)
        if pair == [LEVELS["dark"], LEVELS["middle"]]:  # of the first prompt, in one order
            return Reply(sampled("hard to say"))
        return brighter(request)

    with Server(unreadable) as server:
        words = arguments(study, server, folders=["dark", "middle"])
        # Requests that are open when the error ends the run are sent again.
        error = call(*words, "--option", "concurrency=1", code=2).stderr
        assert "neither A nor B" in error and not (study / "battles.csv").exists()
        done = call(*words, "--on-error", "skip")
        assert len(server.requests) in (8 + 1, 8 + 2), "only what failed or was open is asked twice"
    assert "1 of 4 comparisons failed" in done.stderr
    failed, *others = rows_of(study)
    assert failed["winner"] == "" and "neither A nor B" in failed["error"]
    assert sorted([failed["a_first"], failed["b_first"]]) == ["", "model_b"]
    assert {row["winner"] for row in others} == {"model_a", "model_b"}
    content = rank(study, "--prior", "normal")
    assert content["models"]["dark"]["battles"] == 3
    assert "1 of 4 comparisons failed and are left out" in content["warnings"]


def test_all_failed(study):
    with Server(lambda request: Reply(sampled("?"))) as server:
        call(*arguments(study, server, "--on-error", "skip"), code=1)
    assert {row["winner"] for row in rows_of(study)} == {""}
    assert "all 12 rows are failed" in call("rank", study / "battles.csv", code=2).stderr


def test_faults_of_the_service_change_nothing(study):
    def faulty(request):
        fault = ["429", "500", "503"][request.number % 3]
        return FAULTS[fault]() if request.tries == 1 and request.number % 2 else brighter(request)

    with Server(faulty) as server:
        call(*arguments(study, server))
    assert all(row[row["winner"]] != "dark" for row in rows_of(study))


def test_a_limit_of_cost_keeps_what_was_paid_for(study):
    price = ("--option", "price=[1.0, 0.0]", "--option", "concurrency=1", "--on-error", "skip")
    with Server(brighter) as server:
        # An answer costs 0.0003 dollars: five and no more.
        done = call(*arguments(study, server, *price, "--max-cost", "0.0016"))
        assert len(server.requests) == 5
        rows = rows_of(study)
        assert sum(bool(row["winner"]) for row in rows) == 2
        assert "the limit of 0.0016 US dollars was reached" in done.stderr
        call(*arguments(study, server, *price))
        assert len(server.requests) == 24, "nothing is asked twice"
    assert all(row["winner"] for row in rows_of(study))


def test_killed_it_goes_on(study):
    stuck = threading.Event()

    def behave(request):
        if request.number <= 9:
            return brighter(request)
        stuck.set()
        return FAULTS["hang"]()

    with Server(behave) as server:
        words = [*arguments(study, server), "--option", "concurrency=1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "t2v_eval", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        wait_for(stuck, process)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=HANGING)
        assert process.returncode == 143 and "run the same command again to continue" in error
        assert not (study / "battles.csv").exists()
        server.behave = brighter
        before = len(server.requests)
        call(*words)
        assert len(server.requests) - before == 24 - 9
    assert len(rows_of(study)) == 12


def test_scores_become_battles_of_several_judges(study):
    images = [word for name in LEVELS for word in ("--images", study / name)]
    words = ["judge", "-b", study / "prompts.txt", *images, "-m", "tiny-clip", "-m", "tiny-negclip"]
    rows = json.loads(call(*words, "--store", study / "s.db", "--json").stdout)
    assert len(rows) == 2 * 12 and {row["judge"] for row in rows} == {"tiny-clip", "tiny-negclip"}
    for row in rows:
        gap = row["score_a"] - row["score_b"]
        assert row["winner"] == ("model_a" if gap > 0 else "model_b" if gap < 0 else "tie")
        assert row["a_first"] == row["b_first"] == ""
    printed = call(*words, "--no-store").stdout
    assert len([*csv.DictReader(io.StringIO(printed))]) == 24


def test_the_scores_of_a_report_become_battles(study):
    images = [word for name in LEVELS for word in ("--images", study / name)]
    common = ["-b", study / "prompts.txt", *images, "-m", "tiny-clip", "--no-store"]
    call("eval", *common, "--resamples", 5, "--no-noise-floor", "--out", study / "report")
    call("judge", *common, "--out", study / "battles.csv")
    more = ("--json", "--resamples", 20, "--prior", "normal")
    of_report = json.loads(call("rank", study / "report", *more).stdout)
    assert of_report == rank(study, "--prior", "normal")


def test_a_dry_run_sends_nothing(study):
    with Server(brighter) as server:
        done = call(*arguments(study, server, "--dry-run", "--json"))
        assert not server.requests and not (study / "battles.csv").exists()
    (estimate,) = json.loads(done.stdout)
    assert (estimate["requests"], estimate["model"]) == (24, "gpt-4o-preference")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-b", "prompts.txt", "--images", "dark"], "pass --images once for each generator"),
        (["-b", "scenes"], "scenes is no set of prompts"),
        (["-b", "prompts.txt", "--images", "dark", "--images", "dark"], "passed twice"),
        (["-b", "prompts.txt", "--images", "dark", "--images", "gone"], "gone"),
        (
            ["-b", "prompts.txt", "--images", "dark", "--images", "bright", "--out", "b.txt"],
            "b.txt",
        ),
    ],
)
def test_arguments_that_cannot_be_used(study, monkeypatch, words, message):
    monkeypatch.chdir(study)
    assert message in " ".join(call("judge", "-m", "tiny-clip", *words, code=2).stderr.split())
