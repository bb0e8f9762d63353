"""The command line: what it prints, writes and returns, in this process and in real ones."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.benchmarks.toy_benchmark import Knows, Toys, named_toys  # noqa: F401
from helpers.processes import HANGING
from helpers.toy import ToyEmbedding, draw_image, expected
from scipy.stats import spearmanr
from typer.testing import CliRunner

from t2v_eval import __version__
from t2v_eval.cards import BenchmarkCard, ModelCard
from t2v_eval.cli.main import app
from t2v_eval.cli.options import parse_options
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.tables import read_table, write_table
from t2v_eval.registry import benchmarks, models

ROOT = Path(__file__).parents[3]
RUNNER = CliRunner()


def call(*arguments, code=0):
    result = RUNNER.invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def program(code, *arguments, **options):
    """A real process of the command line; `code` runs before it."""
    start = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n{code}\n"
    start += "from t2v_eval.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", start, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


@pytest.fixture
def images(tmp_path):
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"p{seed}.png")
        draw_image(seed).save(paths[-1])
    return paths


@pytest.fixture
def store(tmp_path):
    return tmp_path / "kept" / "scores.sqlite"


def values(rows):
    return [float(row["score"]) for row in rows]


def test_score_takes_images_times_texts(images, store):
    result = call(
        "score", "-m", "toy-colours", *images, "-t", "a cat", "-t", "two dogs", "--store", store
    )
    rows = list(csv.DictReader(result.stdout.splitlines()))
    scores = [expected(draw_image(s), text) for s in range(3) for text in ("a cat", "two dogs")]
    assert values(rows) == pytest.approx(scores, abs=1e-6)
    assert rows[1]["image"] == str(images[0]) and rows[1]["text"] == "two dogs"
    assert store.is_file()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_score_reads_and_writes_tables(images, tmp_path, store, suffix):
    table = tmp_path / f"pairs{suffix}"
    write_table(table, [{"file": f"p{s}.png", "caption": f"caption {s}"} for s in range(3)])
    out = tmp_path / "new" / f"scores{suffix}"
    named = ("--image-column", "file", "--text-column", "caption")
    call("score", "-m", "toy-colours", "--pairs", table, *named, "--out", out, "--store", store)
    rows = read_table(out)
    assert values(rows) == pytest.approx(
        [expected(draw_image(s), f"caption {s}") for s in range(3)], abs=1e-6
    )
    assert [row["text"] for row in rows] == ["caption 0", "caption 1", "caption 2"]


def test_a_scored_table_keeps_its_columns_so_that_agree_reads_it(images, tmp_path, store):
    table, out = tmp_path / "toy_benchmark.jsonl", tmp_path / "scored.csv"
    people = [3, 1, 2]
    rows = [{"image": f"p{s}.png", "text": f"caption {s}", "human": people[s]} for s in range(3)]
    rows[1]["tags"] = "colour"
    write = "\n".join(map(json.dumps, rows))
    table.write_text(write)
    arguments = ("score", "-m", "toy-colours", "--pairs", table, "--store", store)
    call(*arguments, "--out", out)
    assert [row["human"] for row in read_table(out)] == ["3", "1", "2"]
    assert [row["tags"] for row in read_table(out)] == ["", "colour", ""]
    output = call("agree", out, "--human", "human", "--scores", "score", "--json").stdout
    scores = [expected(draw_image(s), f"caption {s}") for s in range(3)]
    actual = json.loads(output)["scores"]["score"]["all"]["spearman"]["value"]
    assert actual == pytest.approx(spearmanr(people, scores).statistic)
    table.write_text(write.replace("human", "score"))
    output = call(*arguments, code=2).stderr
    assert "columns 'score' of their own" in " ".join(output.split())


def test_images_of_a_table_are_below_the_root(images, tmp_path, store):
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "t.csv"
    write_table(table, [{"image": "p0.png", "text": "x"}])
    common = ("score", "-m", "toy-colours", "--pairs", table, "--store", store)
    assert "no such file" in call(*common, code=2).stderr
    assert values(csv.DictReader(call(*common, "--root", tmp_path).stdout.splitlines()))


def test_images_inside_a_parquet_table(images, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"image": {"bytes": images[0].read_bytes(), "path": "a.png"}, "text": "x"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    result = call("score", "-m", "toy-colours", "--pairs", tmp_path / "t.parquet", "--no-store")
    assert values(csv.DictReader(result.stdout.splitlines())) == pytest.approx(
        [expected(draw_image(0), "x")], abs=1e-6
    )


def test_templates_and_options_reach_the_scorer(images):
    common = ("score", "-m", "toy-colours", images[0], "-t", "cat", "--no-store")
    rows = csv.DictReader(call(*common, "--question", "a photo of {}").stdout.splitlines())
    assert values(rows) == pytest.approx([expected(draw_image(0), "a photo of cat")], abs=1e-6)
    call(*common, "--option", "scale=2.5", "--device", "cpu", "--dtype", "float64")
    assert "takes no --option shade=" in call(*common, "--option", "shade=1", code=2).stderr
    assert "write KEY=VALUE" in call(*common, "--option", "scale", code=2).stderr
    assert "unknown placeholder '{x}'" in call(*common, "--question", "{x}", code=2).stderr
    assert "reads no answer" in call(*common, "--answer", "{}", code=2).stderr


def test_options_are_read_as_json_or_as_python_writes_them():
    options = ["a=1.5", "b=true", "c=False", "d=None", "e=False, really", 'f={"fps": 2.0}', "g="]
    result = {"a": 1.5, "b": True, "c": False, "d": None, "e": "False, really", "f": {"fps": 2.0}}
    assert parse_options(options) == {**result, "g": ""}


def test_failed_scores_are_empty_and_said(images, tmp_path, store):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    common = ("score", "-m", "toy-colours", "-t", "x", "--on-error", "skip", "--store", store)
    result = call(*common, images[0], tmp_path / "bad.png")
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert rows[0]["score"] and not rows[1]["score"]
    assert "not an image" in rows[1]["error"]
    assert "1 of 2 scores failed and are left out" in result.stderr
    assert "every score failed" in call(*common, tmp_path / "bad.png", code=1).stderr
    result = call(
        "score", "-m", "toy-colours", "-t", "x", tmp_path / "bad.png", "--no-store", code=2
    )
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr


@pytest.mark.parametrize("stop", ["error", "raise"])
def test_on_error_stops_with_the_word_of_the_shell_and_with_that_of_python(images, tmp_path, stop):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    common = ("score", "-m", "toy-colours", "-t", "x", "--no-store", "--on-error", stop)
    assert call(*common, images[0]).stdout
    assert "bad.png): not an image" in call(*common, tmp_path / "bad.png", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "--on-error", "stop"], "'stop' is not one of 'error', 'skip', 'raise'"),
        (
            ["score", "--image-mode", "blurred"],
            "'blurred' is not one of 'seen', 'original', 'fast'",
        ),
        (["score", "--batch-size", "0"], "--batch-size 0"),
        (["score", "--batch-size", "many"], "'--batch-size'"),
        (["score", "--batch-sise", "3"], "--batch-sise"),
        (["store", "prune"], "SCORER"),
        (["list", "scorers"], "'scorers' is not one of"),
    ],
)
def test_wrong_arguments_are_one_line_too(images, arguments, message):
    if arguments[0] == "score":
        arguments = [*arguments, "-m", "toy-colours", images[0], "-t", "x", "--no-store"]
    output = call(*arguments, code=2).stderr
    assert output.startswith("error: ") and message.lower() in output.lower()
    assert len(output.splitlines()) == 1


def test_debug_shows_where_an_error_came_from(images):
    result = RUNNER.invoke(app, ["--debug", "score", "-m", "toy-colour", str(images[0]), "-t", "x"])
    assert type(result.exception).__name__ == "UnknownNameError"


def test_warnings_are_lines(images):
    result = call(
        "score", "-m", "toy-colours", images[0], "-t", "x", "--no-store", "--question", "a photo"
    )
    assert "warning: neither the question 'a photo'" in result.stderr


def test_eval_prints_and_writes_the_report(tmp_path, store):
    out = tmp_path / "out"
    result = call("eval", "-m", "toy-oracle", "-b", "toy-items", "--out", out, "--store", store)
    assert "toy-items: 12 items, with 95 % intervals" in result.stdout
    assert "1.000 [1.000, 1.000]" in result.stdout and "guessing" in result.stdout
    assert "They show toys, and nothing else." in result.stdout
    assert str(out / "report.html") in result.stdout
    content = json.loads((out / "report.json").read_text())
    assert content["runs"][0]["counts"]["computed"] == 48 and content["differences"] == []
    call("eval", "-m", "toy-oracle", "-b", "toy-items", "--out", out, "--store", store)
    counts = json.loads((out / "report.json").read_text())["runs"][0]["counts"]
    assert counts == {"cells": 48, "computed": 0, "reused": 48, "failed": 0, "used": 48}


def test_compare_shows_differences_and_wants_two_models(tmp_path, store):
    common = ("compare", "-b", "toy-items", "--store", store)
    result = call(*common, "-m", "toy-oracle", "-m", "toy-guesser")
    assert "toy-oracle - toy-guesser" in result.stdout and "p of right" in result.stdout
    assert "no significant difference" in result.stdout, "12 items are too few"
    assert "+0.333" in result.stdout
    assert "at least two scorers" in call(*common, "-m", "toy-oracle", code=2).stderr
    alike = call(*common, "-m", "toy-oracle", "-m", "toy-oracle")
    assert "no significant difference" in alike.stdout


def test_eval_refuses_an_unwritable_folder_before_scoring(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Knows, "score_cells", None)
    result = call(
        "eval",
        "-m",
        "toy-oracle",
        "-b",
        "toy-items",
        "--out",
        tmp_path / "file",
        "--no-store",
        code=2,
    )
    assert "is a file, not a folder" in result.stderr


def test_a_wrong_name_makes_no_folder(tmp_path):
    for names in (("-m", "toy-oracl", "-b", "toy-items"), ("-m", "toy-oracle", "-b", "toy-item")):
        result = call("eval", *names, "--out", tmp_path / "out", "--no-store", code=2)
        assert "Did you mean" in result.stderr and not (tmp_path / "out").exists()


def test_a_run_in_which_all_fails_is_written_and_exits_with_1(tmp_path, monkeypatch):
    every = Toys.items
    monkeypatch.setattr(
        Toys, "items", lambda self: [Item([b"bad"], item.texts[:1]) for item in every(self)]
    )
    monkeypatch.setattr(Toys, "metrics", lambda *_: {"right": float("nan")})
    names = ("-m", "toy-colours", "-b", "toy-items")
    skip = ("--on-error", "skip", "--no-store")
    result = call("eval", *names, "--out", tmp_path, *skip, code=1)
    assert "every score failed" in result.stderr and "12 of 12 scores failed" in result.stderr
    assert json.loads((tmp_path / "report.json").read_text())["runs"][0]["counts"]["used"] == 0


def test_what_users_wrote_is_no_markup(images, tmp_path):
    draw_image(0).save(tmp_path / "[red]x[nonsense].png")
    result = call(
        "score", "-m", "toy-colours", tmp_path / "no[red].png", "-t", "x", "--no-store", code=2
    )
    assert "no[red].png" in result.stderr
    call(
        "score", "-m", "toy-colours", tmp_path / "[red]x[nonsense].png", "-t", "[/b]", "--no-store"
    )


def test_demo_runs_what_cards_say(tmp_path, monkeypatch):
    demos = {"toy-oracle": ModelCard("toy-oracle", "Knows", "judged", demo=True)}
    judges = {"toy-items": BenchmarkCard("toy-items", "Toys", "judged", demo=True)}
    both = property(lambda registry: demos if registry is models else judges)
    monkeypatch.setattr(type(models), "cards", both)
    result = call("demo", "--out", tmp_path / "demo", "--no-store")
    assert "toy-oracle" in result.stdout and (tmp_path / "demo" / "report.html").is_file()
    demos.clear()
    assert "demo = true" in call("demo", "--no-store", code=2).stderr


def test_lists_take_patterns_and_kinds():
    table, own = call("list", "models").stdout.split("\n\n")
    assert own.startswith("files of your own\n*.py (own)\n")
    header, *lines = table.splitlines()
    assert header.split() == ["name", "kind", "summary", "license", "follows"]
    starts = [header.index(column) for column in header.split()]
    assert all(not line[start - 2 : start].strip() for line in lines for start in starts[1:3])
    names = [line.split()[0] for line in lines]
    assert names == models.names() and "toy-colours" in names
    lines = call("list", "models", "toy-[op]*", "--kind", "oracle").stdout.splitlines()
    assert lines[1:] == ["toy-oracle  oracle  right but one in `wrong`"]
    assert "\ntoy-items " in call("list", "benchmarks", "toy-i*").stdout
    listed = call("list", "benchmarks").stdout.partition("\n\n")[0].splitlines()[1:]
    assert benchmarks.names() == [line.split()[0] for line in listed]
    assert call("list", "templates", "plain").stdout.splitlines()[1].split()[:2] == [
        "plain",
        "template",
    ]
    nothing = call("list", "models", "nothing*")
    assert nothing.stdout == "" and "no models match 'nothing*'" in nothing.stderr
    assert "Did you mean 'toy-colours'" in call("list", "models", "toy-colors", code=2).stderr
    unknown = call("list", "models", "--kind", "oracles", code=2).stderr
    assert "of kind 'oracles'; kinds are aesthetic, " in unknown and " oracle, " in unknown


def test_a_scorer_s_options_are_listed_with_their_flags(images):
    printed = call("list", "models", "tiny-clip").stdout
    assert "\n--batch-size (int)\n    the first batch size" in printed
    assert "\n--option local_files_only= (bool, False)\n" in printed
    assert "\n--question (str)" in printed and "card" not in printed.partition("options (type")[2]
    printed = call("list", "benchmarks", "scenes").stdout
    assert "\n--benchmark-option n= (int, 600)\n    number of items" in printed
    options = json.loads(call("list", "models", "gpt-4o", "--json").stdout)["options"]
    by_name = {option["name"]: option for option in options}
    assert by_name["max_cost"]["flag"] == "--max-cost" and by_name["max_cost"]["help"]
    assert by_name["timeout"]["type"] == "float" and by_name["timeout"]["default"] == "60.0"


def test_store_commands(images, tmp_path, store):
    common = ("score", "--store", store, "-t", "x", "--on-error", "skip")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    call(*common, "-m", "toy-colours", *images, tmp_path / "bad.png")
    call(*common, "-m", "toy-colours", *images, "--question", "a {}")
    output = call("store", "stats", "--store", store).stdout
    assert str(store) in output and "toy-colours weights" in output
    out = tmp_path / "all.jsonl"
    call("store", "export", "--store", store, "--out", out)
    rows = read_table(out)
    assert len(rows) == 7 and sum(row["value"] is None for row in rows) == 1
    text = call("store", "export", "--store", store, "--scorer", "toy-colours").stdout
    assert len(text.splitlines()) == 8 and text.startswith("scorer,image,text,value,error")
    printed = call("store", "prune", "toy-colours", "--failed", "--store", store).stdout
    assert printed.startswith("1 scores")
    assert call("store", "prune", "other", "--store", store).stdout.startswith("0 scores")
    printed = int(call("store", "prune", "toy-c*", "--store", store).stdout.split()[0])
    assert printed > 6
    assert call("store", "export", "--store", store).stdout == ""
    nowhere = tmp_path / "nowhere.sqlite"
    assert "there is no store at" in call("store", "stats", "--store", nowhere, code=2).stderr
    assert not nowhere.exists()


def test_caption_prints_means_and_writes_scores(images, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({f"p{s}": f"caption {s}" for s in range(3)}))
    out = tmp_path / "result.json"
    result = call(
        "caption",
        tmp_path / "c.json",
        tmp_path,
        "--scorer",
        "toy-colours",
        "--out",
        out,
        "--no-store",
    )
    scores = [expected(draw_image(s), f"caption {s}") for s in range(3)]
    assert result.stdout == f"toy-colours: {sum(scores) / 3:.4f}\n"
    assert json.loads(out.read_text())["p1"]["toy-colours"] == pytest.approx(scores[1], abs=1e-6)
    result = call("caption", tmp_path / "none.json", tmp_path, "--scorer", "toy-colours", code=2)
    assert "none.json" in result.stderr


def test_version_and_help():
    assert call("--version").stdout.strip() == __version__
    assert "Exit codes" in call("--help").stdout
    for command in ("score", "eval", "compare", "demo", "list", "caption", "store"):
        assert call(command, "--help").stdout
    assert call("score", code=2).stderr, "a usage error"


def test_a_real_process(images):
    done = program(
        "from helpers.benchmarks import toy_benchmark; toy_benchmark.register()",
        "score",
        "-m",
        "toy-colours",
        images[0],
        "-t",
        "x",
        "--no-store",
    )
    out, err = done.communicate(timeout=HANGING)
    assert done.returncode == 0, err
    assert values(csv.DictReader(out.splitlines())) == pytest.approx(
        [expected(draw_image(0), "x")], abs=1e-6
    )
    assert err == "", "no progress where no terminal is"


def test_python_m_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "t2v_eval", "list", "models", "nothing*", "-q"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_listing_is_quick():
    code = (
        "import sys, time; from t2v_eval.cli.main import main; sys.argv[1:] = ['list', 'models']\n"
        "try: main()\n"
        "finally: print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert float(done.stderr) < 5, "seconds of the processor, of which others take none"


def test_a_scorer_that_uses_no_text_needs_none(images):
    class NoText(ToyEmbedding):
        uses_text = False

    models.register("toy-no-text", kind="aesthetic")(NoText)
    done = call("score", "-m", "toy-no-text", *images[:2], "--no-store")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert values(rows) == pytest.approx([expected(draw_image(n), "") for n in range(2)], abs=1e-6)


def test_a_full_name_lists_all_that_its_card_says():
    facts = json.loads(call("list", "models", "toy-colours", "--json").stdout)
    assert facts["name"] == "toy-colours" and facts["summary"] == "colours and letters"
    assert facts["differentiable"] == "False"
