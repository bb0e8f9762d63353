"""A function or a class in a Python file of a user is a scorer, by its path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, T2VWarning
from t2v_eval.store import Store

LENGTHS = (
    "def lengths(images, texts):\n    return [[{factor} * len(t) for t in texts] for _ in images]\n"
)
CLASS = """
from __future__ import annotations
from dataclasses import dataclass
import torch
import t2v_eval

@dataclass
class Settings:
    value: float = 0.25

class Flat(t2v_eval.PairScorer):
    VERSION
    def __init__(self, value=Settings().value, **options):
        super().__init__(**options)
        self.value = value
    def preprocess(self, image):
        return torch.zeros(1)
    def encode_images(self, batch):
        return list(batch)
    def score(self, states, texts):
        return torch.full((len(texts),), self.value)

class Narrow(Flat):
    def __init__(self):
        super().__init__()

class Failing(Flat):
    def __init__(self, **options):
        raise RuntimeError("no weights here")
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(LENGTHS.format(factor=1))
    return path


@pytest.fixture
def image(tmp_path) -> str:
    path = tmp_path / "a.png"
    draw_image(0).save(path)
    return str(path)


def run(*arguments) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def scores(stdout: str) -> list[float]:
    return [float(line.split(",")[-2]) for line in stdout.splitlines()[1:]]


def test_its_folder_is_imported_from_as_by_python(file):
    (file.parent / "helper_of_mine.py").write_text("def length(text):\n    return len(text)\n")
    file.write_text("from helper_of_mine import length\n" + LENGTHS.format(factor="length('ab')"))
    before = list(sys.path)
    scorer = t2v_eval.load(f"{file}:lengths", version="1")
    assert sys.path == before and scorer.name == "lengths"
    assert scorer(draw_image(0), ["cat", "a bird"]).tolist() == [[6, 12]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.py:nothing", "def length(): 0", "has no function 'nothing'; it has length$"),
        ("mine.py:lenght", "def length(): 0", "it has length; did you mean 'length'"),
        ("mine.py:N", "N = 3", "has no function 'N'; its 'N' is int; it has no function"),
        ("mine.py", "def length(): 0", "which function. it has length; write FILE.py:FUNCTION"),
        ("mine.py:", "1 +", "which function. it has no function; write"),
        ("gone.py:f", "", "gone.py: no such file; write FILE.py:FUNCTION"),
        (".py:f", "", "no such file"),
        ("mine.py:f", "x = 1\n1 / 0", "mine.py, line 2, raises ZeroDivisionError: division by"),
        ("mine.py:f", "x = 1\ny = (", "mine.py, line 2, raises SyntaxError: '.' was never closed"),
        ("mine.py:f", "raise SystemExit(0)", "line 1, raises SystemExit: 0; run `python"),
        ("mine.py:f", "import no_such_module", "raises ModuleNotFoundError: No module named"),
        ("mine.py:f", b"x = '\xff'", "raises SyntaxError: .*encoding"),
        ("mine.py:K", "class K: pass", "K is a class, but no subclass of t2v_eval.Scorer"),
        ("mine.py:S", "from t2v_eval import Scorer as S", "has all of its methods"),
    ],
)
def test_what_is_wrong_and_what_to_write(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "mine.py").write_bytes(content)
    with pytest.raises(InputError, match=message):
        t2v_eval.load(name)


def test_an_edit_within_the_same_second_counts(file, tmp_path):
    store = tmp_path / "s.db"
    for factor in (1, 2, 3):
        file.write_text(LENGTHS.format(factor=factor))
        scorer = t2v_eval.load(f"{file}:lengths", version=1, store=store)
        assert scorer(draw_image(0), "cat").item() == 3 * factor
    assert not list(tmp_path.glob("__pycache__"))


def test_functions_of_one_name_in_two_files_share_no_scores(file, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(LENGTHS.format(factor=2))
    for path, expected in ((file, 3), (other, 6), (file, 3)):
        scorer = t2v_eval.load(f"{path}:lengths", version=1, store=tmp_path / "s.db")
        assert scorer(draw_image(0), "cat").item() == expected


def test_without_a_version_nothing_is_stored(file, tmp_path):
    store = tmp_path / "s.db"
    with pytest.warns(T2VWarning, match=r"no scores of 'lengths' are stored.*`version='1'`"):
        scorer = t2v_eval.load(f"{file}:lengths", store=store)
    assert scorer.store is None and scorer(draw_image(0), "cat").item() == 3
    assert not store.exists()
    with pytest.raises(InputError, match="version=True"):
        t2v_eval.load(f"{file}:lengths", version=True)


def test_a_class_of_a_file(tmp_path):
    for version, stores in (("pass", False), ('version = "1"', True)):
        path = tmp_path / "own_class.py"
        path.write_text(CLASS.replace("VERSION", version))
        options = {"value": 0.75, "store": tmp_path / "s.db"}
        if stores:
            scorer = t2v_eval.load(f"{path}:Flat", **options)
        else:
            with pytest.warns(T2VWarning, match='write `version = "1"` in the class'):
                scorer = t2v_eval.load(f"{path}:Flat", **options)
        assert (scorer.store is not None) is stores
        assert scorer.name == "Flat" and scorer(draw_image(0), "cat").item() == 0.75
    for name, message in (
        ("Narrow", r"Narrow got an unexpected .*let its __init__ take \*\*options"),
        ("Failing", r"own_class.py, line 29, raises RuntimeError: no weights here"),
    ):
        with pytest.raises(InputError, match=message):
            t2v_eval.load(f"{path}:{name}", device="cpu")
    with pytest.raises(InputError, match="own_class.py: Flat takes no `pairs=`"):
        t2v_eval.load(f"{path}:Flat", pairs=True)


def test_score_by_the_command_line(file, image, tmp_path):
    model, store = f"{file}:lengths", tmp_path / "s.db"
    code, out, err = run("score", image, "-t", "cat", "-m", model, "--store", store)
    assert code == 0 and scores(out) == [3]
    assert err.count("no scores of 'lengths' are stored") == 1 and "--option version=1" in err
    assert not store.exists()
    arguments = ("score", image, "-t", "cat", "-m", model, "--store", store, "--option")
    code, out, err = run(*arguments, "version=1")
    assert code == 0 and scores(out) == [3] and "stored" not in err
    (row,) = Store(store).stats()
    assert row.scorer.startswith("lengths source=")
    assert run(*arguments, "no_such=1")[2].count("takes no --option no_such") == 1
    file.write_text("def lengths(images, texts):\n    raise KeyError('lamp')\n")
    code, _, err = run(*arguments, "version=1")
    assert code == 2 and "KeyError: 'lamp'" in err and "Traceback" not in err
    file.write_text("def lengths(images, texts):\n    return [1.0] * len(images)\n")
    code, _, err = run(*arguments, "version=1")
    assert code == 2 and "return 1 x 1 scores" in err and "--option pairs=true" in err
    assert scores(run(*arguments, "pairs=true")[1]) == [1]


def test_compare_a_file_with_scorers_of_this_library(file, tmp_path):
    arguments = ("compare", "-b", "scenes", "--benchmark-option", "n=2", "--resamples", 5)
    arguments += ("--no-store", "--model", "tiny-clip", "--model", f"{file}:lengths")
    code, out, err = run(*arguments, "--option", "version=1")
    assert code == 0 and "lengths" in out and "tiny-clip" in out and "warning" not in err
    code, _, err = run(*arguments, "--option", "no_such=1")
    assert code == 2 and "takes no --option no_such" in err


def test_a_mistake_in_a_file_is_known_before_another_scorer_has_run(file, monkeypatch):
    calls = []
    monkeypatch.setattr(t2v_eval.Scorer, "run", lambda *_: calls.append(1))
    monkeypatch.setattr(t2v_eval.api.ScorerOptions, "load", lambda *_: calls.append(1))
    with pytest.raises(InputError, match="has no function 'length'"):
        t2v_eval.compare(["tiny-clip", f"{file}:length"], "scenes", resamples=5)
    assert not calls


def test_a_file_is_run_once_a_comparison(tmp_path):
    file = tmp_path / "noisy.py"
    log = tmp_path / "log"
    file.write_text(f"open({str(log)!r}, 'a').write('x')\n" + LENGTHS.format(factor=1))
    few = {"benchmark_options": {"n": 2}, "resamples": 5}
    for times in (1, 2):
        t2v_eval.compare(f"{file}:lengths", "scenes", **few)
        assert log.read_text() == "x" * times


def test_captions(file, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    (tmp_path / "captions.json").write_text('{"one": "a cat"}')
    code, out, _ = run(
        "caption", tmp_path / "captions.json", tmp_path, "-m", f"{file}:lengths", "--no-store"
    )
    assert code == 0 and "5.0000" in out


def test_a_callable_and_a_scorer_of_a_file(tmp_path):
    file = tmp_path / "objects.py"
    file.write_text(
        "import t2v_eval\n"
        "class Call:\n    def __call__(self, images, texts): return [[2.0]]\n"
        "call = Call()\nhalf = t2v_eval.from_function(lambda images, texts: [[0.5]])\n"
    )
    assert t2v_eval.load(f"{file}:call")(draw_image(0), "x").item() == 2
    assert t2v_eval.load(f"{file}:half")(draw_image(0), "x").item() == 0.5


def test_an_option_of_a_class_of_a_file_goes_to_it_alone(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    heir = "class Heir(Flat):\n    def __init__(self, **options): super().__init__(**options)\n"
    path.write_text(CLASS.replace("VERSION", "") + heir + LENGTHS.format(factor=1))
    loaded = {}
    build = ScorerOptions.load

    def noted(options, card):
        loaded[card.name] = dict(options.specific)
        return build(options, card)

    monkeypatch.setattr(ScorerOptions, "load", noted)
    few = {"benchmark_options": {"n": 2}, "resamples": 5, "noise_floor": False}
    flat, heir, lengths = (f"{path}:{name}" for name in ("Flat", "Heir", "lengths"))
    t2v_eval.compare([lengths, flat, heir], "scenes", value=0.5, **few)
    assert loaded == {lengths: {}, flat: {"value": 0.5}, heir: {"value": 0.5}}
    with pytest.raises(InputError, match="takes no `valeu=`"):
        t2v_eval.compare([lengths, flat], "scenes", valeu=0.5, **few)
