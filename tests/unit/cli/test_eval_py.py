"""eval.py: t2v_metrics' flags over the code of `t2v-eval eval`."""

import importlib.util
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.benchmarks.examples import EXAMPLES
from helpers.benchmarks.toy_benchmark import Knows, Toys, named_toys  # noqa: F401

from t2v_eval.errors import BenchmarkDataError, InputError, MissingDataError
from t2v_eval.evaluation.benchmark import Benchmark
from t2v_eval.registry import benchmarks, models

ROOT = Path(__file__).parents[3]


@pytest.fixture
def program(monkeypatch):
    spec = importlib.util.spec_from_file_location("eval_py", ROOT / "eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: ["toy-items", "toy-elsewhere"])
    return module


class Elsewhere(Benchmark):
    def items(self):
        raise MissingDataError("no files here: see its page")

    def metrics(self, items, scores):
        raise AssertionError("never reached")


class Malformed(Elsewhere):
    def items(self):
        raise BenchmarkDataError("row 3 is no row")


class Refuses(Toys):
    """Its second image is broken, which the scorer finds out."""

    def items(self):
        return [replace(item, images=[b"no picture", item.images[1]]) for item in super().items()]


class Crashes(Toys):
    def metrics(self, items, scores):
        raise RuntimeError("a bug of somebody's")


class Tells(Knows):
    """Remembers how it was made."""

    made: list = []  # noqa: RUF012

    def __init__(self, cache_dir=None, device=None, batch_size=None, checkpoint=None, **options):
        super().__init__(**options)
        self.made.append((cache_dir, device, batch_size, checkpoint, self.template.question))


@pytest.fixture(autouse=True)
def more_names(named_toys):  # noqa: F811
    benchmarks.register("toy-elsewhere")(Elsewhere)
    benchmarks.register("toy-malformed")(Malformed)
    benchmarks.register("toy-refused")(Refuses)
    benchmarks.register("toy-crash")(Crashes)
    models.register("toy-flags", kind="vqa")(Tells)


def test_the_flags_of_the_reference_reach_the_scorer(program, tmp_path, capsys):
    Tells.made.clear()
    program.main(
        "--model toy-flags --root_dir tests --cache_dir hub --device cpu --batch_size 4 --no_store "
        f"--model_path weights --question really,{{}}? --answer Yes --out {tmp_path}".split()
    )
    assert Tells.made == [("hub", "cpu", 4, "weights", "really,{}?")]
    out, err = capsys.readouterr()
    assert "toy-items: 12 items" in out and "left out, not in tests: toy-elsewhere;" in err
    (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert run["scorer"]["answer"] == "Yes" and run["metrics"]["right"]["value"] == 1.0


def test_the_folder_reaches_the_benchmarks_and_nothing_there_is_an_error(
    program, tmp_path, capsys, monkeypatch
):
    roots = []
    items = Toys.items
    monkeypatch.setattr(Toys, "items", lambda self: roots.append(self.root) or items(self))
    arguments = ["--model", "toy-flags", "--root_dir", str(tmp_path), "--no_store"]
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: ["toy-elsewhere"])
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    assert f"{tmp_path} holds the files of none of toy-elsewhere" in capsys.readouterr().err
    program.main([*arguments, "--benchmark", "toy-items"])
    assert roots == [tmp_path]
    with pytest.raises(SystemExit) as caught:
        program.main([*arguments, "--benchmark", "toy-items", "toy-elsewhere"])
    assert caught.value.code == 2 and "failed: toy-elsewhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main(["--model", "toy-flags", "--root_dir", str(tmp_path / "no"), "--no_store"])
    assert f"there is no folder {tmp_path / 'no'}" in capsys.readouterr().err


def test_one_that_fails_does_not_lose_the_others(program, tmp_path, capsys, monkeypatch):
    names = ["toy-malformed", "toy-refused", "toy-crash", "toy-items", "toy-elsewhere"]
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: names)
    with pytest.raises(SystemExit) as caught:
        program.main(
            f"--model toy-flags --root_dir {tmp_path} --no_store --out {tmp_path / 'out'}".split()
        )
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "toy-items: 12 items" in out
    assert "toy-malformed: row 3 is no row" in err and "toy-refused: " in err
    assert "toy-crash: a bug of somebody's" in err and "RuntimeError" in err
    assert "failed: toy-malformed, toy-refused, toy-crash; the others are above" in err
    (run,) = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]
    assert run["benchmark"]["name"] == "toy-items"


class Untagged(Toys):
    def items(self):
        return [replace(item, tags=()) for item in super().items()]


class Gap(Toys):
    """Its second item names an image file that is not there."""

    def items(self):
        first, second, *others = super().items()
        return [first, replace(second, images=["gone.png", second.images[1]]), *others]


def register(monkeypatch, name, benchmark):
    """Register a benchmark for one test."""
    monkeypatch.setattr(benchmarks, "_registered", dict(benchmarks._registered))
    benchmarks.register(name)(benchmark)


def test_a_subset_is_that_of_the_command_line(program, tmp_path, capsys, monkeypatch):
    register(monkeypatch, "toy-untagged", Untagged)
    names = ["toy-items", "toy-untagged"]
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: names)
    command = ["--model", "toy-flags", "--root_dir", str(tmp_path), "--no_store"]
    program.main([*command, "--subset", "Even", "--out", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert "6 of 12 items" in out and "toy-untagged: `subset='Even'`: the items of" in err
    (run,) = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]
    assert run["benchmark"]["subset"] == ["Even"] and run["benchmark"]["items"] == 6
    with pytest.raises(SystemExit) as stopped:
        program.main([*command, "--subset", "evn"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "Did you mean 'even'?" in err and "--subset evn: none of toy-items" in err
    with pytest.raises(SystemExit) as stopped:
        program.main([*command, "--subset", "even", "--benchmark", *names])
    assert stopped.value.code == 2 and "failed: toy-untagged;" in capsys.readouterr().err


def test_items_without_an_image_are_left_out_where_that_is_said(
    program, tmp_path, capsys, monkeypatch
):
    register(monkeypatch, "toy-gap", Gap)
    command = ["--model", "toy-flags", "--root_dir", str(tmp_path), "--no_store"]
    command += ["--benchmark", "toy-gap", "--out", str(tmp_path / "out")]
    for flag in ("--on-missing", "--on_missing"):
        program.main([*command, flag, "skip"])
        assert "11 of 12 items" in capsys.readouterr().out
        (run,) = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]
        assert run["benchmark"]["left_out"] == {"items": 1, "missing": {"toy-1": "gone.png"}}
    with pytest.raises(SystemExit):
        program.main([*command, "--on-missing", "ignore"])
    assert "invalid choice: 'ignore'" in capsys.readouterr().err


def test_the_second_run_reuses_the_first(program, tmp_path, capsys):
    arguments = [
        "--model",
        "toy-colours",
        "--root_dir",
        str(tmp_path),
        "--store",
        str(tmp_path / "s"),
    ]
    program.main(arguments)
    assert "48 of 48 " in capsys.readouterr().out
    program.main([*arguments, "--seed", "3"])
    assert "48 of 48, 48 reused" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
def test_the_folders_of_t2v_metrics(program, tmp_path, capsys, monkeypatch):
    """Its layout: annotations beside the folders of the images, which have names of their own."""
    monkeypatch.undo()
    places = {
        "tifa160": "tifa160", "seetrue": "seetrue", "stanfordt23d": "stanfordt23d",
        "eqben-mini": "eqben_vllm", "t2vscore-alignment": "t2vscore",
        "genai-bench-1600": "GenAI-Image-1600", "pickapic-100": "pickapic_v1",
        "naturalbench-retrieval": "NaturalBench-Retrieval",
    }  # fmt: skip
    for name, folder in places.items():
        EXAMPLES[name].write(tmp_path / folder)
    for name in ("tifa160/tifa160.json", "tifa160/dsg_tifa160_anns.csv", "seetrue/SeeTRUE.csv",
                 "stanfordt23d/stanfordt23d.json"):  # fmt: skip
        (tmp_path / name).rename(tmp_path / Path(name).name)
    result, bad = program._read(None, tmp_path)
    assert bad == ["toy-malformed"] and {item.name for item, _ in result} == {
        *places, "stanfordt23d-300", "toy-items", "toy-refused", "toy-crash"
    }  # fmt: skip
    err = capsys.readouterr().err
    assert "left out, not in " in err and "winoground" in err
    assert "tifa160-two-raters: " in err and "holds no human_annotations.json" in err
    assert "scenes" not in err and "drawbench" not in err
    with pytest.raises(InputError, match="there is no folder"):
        program._read(None, tmp_path / "nowhere")


def test_errors_are_one_line(program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(["--model", "toy-flag", "--benchmark", "toy-items", "--no_store"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "Did you mean 'toy-flags'" in err


def test_the_default_model_is_a_fact_of_a_card(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["eval.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "eval.py"), run_name="__main__")
    assert stopped.value.code == 0
    help_text = capsys.readouterr().out
    assert models.default("vqa") in help_text
    for flag in [
        "root_dir",
        "cache_dir",
        "device",
        "batch_size",
        "model",
        "question",
        "answer",
        "model_path",
    ]:
        assert f"--{flag}" in help_text
