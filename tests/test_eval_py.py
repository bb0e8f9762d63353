"""eval.py: t2v_metrics' flags over the code of `t2v-eval eval`."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from judged import Knows, Toys, named_toys  # noqa: F401

from t2v_eval.benchmark import Benchmark
from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks, models

ROOT = Path(__file__).parent.parent


@pytest.fixture
def program(monkeypatch):
    spec = importlib.util.spec_from_file_location("eval_py", ROOT / "eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: ["toy-items", "toy-elsewhere"])
    return module


class Elsewhere(Benchmark):
    def items(self):
        raise BenchmarkDataError("no files here: see its page")

    def metrics(self, items, scores):
        raise AssertionError("never reached")


class Tells(Knows):
    """Remembers how it was made."""

    made: list = []  # noqa: RUF012

    def __init__(self, cache_dir=None, device=None, batch_size=None, checkpoint=None, **options):
        super().__init__(**options)
        self.made.append((cache_dir, device, batch_size, checkpoint, self.template.question))


@pytest.fixture(autouse=True)
def more_names(named_toys):  # noqa: F811
    benchmarks.register("toy-elsewhere")(Elsewhere)
    models.register("toy-flags", kind="vqa")(Tells)


def test_the_flags_of_the_reference_reach_the_scorer(program, tmp_path, capsys):
    Tells.made.clear()
    program.main(
        "--model toy-flags --root_dir data --cache_dir hub --device cpu --batch_size 4 --no_store "
        f"--model_path weights --question really,{{}}? --answer Yes --out {tmp_path}".split()
    )
    assert Tells.made == [("hub", "cpu", 4, "weights", "really,{}?")]
    out, err = capsys.readouterr()
    assert "toy-items: 12 items" in out and "left out, not in data: toy-elsewhere;" in err
    (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert run["scorer"]["answer"] == "Yes" and run["metrics"]["right"]["value"] == 1.0


def test_the_folder_reaches_the_benchmarks_and_nothing_there_is_an_error(
    program, tmp_path, capsys, monkeypatch
):
    roots = []
    monkeypatch.setattr(Toys, "items", lambda self: roots.append(self.root) or [])
    monkeypatch.setattr(type(benchmarks), "names", lambda self, *_: ["toy-elsewhere"])
    with pytest.raises(SystemExit) as caught:
        program.main(["--model", "toy-flags", "--root_dir", str(tmp_path), "--no_store"])
    assert caught.value.code == 2
    assert f"{tmp_path} holds the files of none of toy-elsewhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main(
            [
                "--model",
                "toy-flags",
                "--root_dir",
                str(tmp_path),
                "--no_store",
                "--benchmark",
                "toy-items",
            ]
        )
    assert roots == [tmp_path]


def test_errors_are_one_line(program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(["--model", "toy-flag", "--benchmark", "toy-items", "--no_store"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and "Did you mean 'toy-flags'" in err


def test_the_default_model_is_a_fact_of_a_card():
    help_text = subprocess.run(
        [sys.executable, ROOT / "eval.py", "--help"], capture_output=True, text=True, check=True
    ).stdout
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
