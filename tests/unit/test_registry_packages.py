"""Packages of third parties: what is broken stays theirs, and what is ours stays ours."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VWarning, UnknownNameError
from t2v_eval.registry import Registry

ROOT = Path(__file__).parents[2]
SCORER = "class Scorer:\n    def __init__(self, card, path='', checkpoint='', store=None):\n"
SCORER += "        self.card, self.path = card, path or checkpoint\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with an entry point where Python finds it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    packages = []

    def of(package: str, cards: str, code: str = SCORER, start: str = "", value: str = "") -> Path:
        folder = site / package
        folder.mkdir()
        (folder / "__init__.py").write_text(start)
        (folder / "cards.toml").write_text(cards)
        (folder / "cards.py").write_text(code)
        facts = site / f"{package}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = f"[t2v_eval.backends]\n{package} = {value or package}\n"
        (facts / "entry_points.txt").write_text(lines)
        packages.append(package)
        return site

    yield of
    for name in [n for n in sys.modules if n.partition(".")[0] in packages]:
        del sys.modules[name]


def registry() -> Registry:
    return Registry("model", "t2v_eval.backends", ModelCard)


def card(*names: str, family: str = "") -> str:
    text = 'entry = "Scorer"\nkind = "theirs"\n' + "".join(f'[names."{n}"]\n' for n in names)
    return text + (f'[families."{family}"]\nargument = "path"\n' if family else "")


BROKEN = {
    "cards that are no TOML": {"cards": "entry = \n"},
    "a card without a class": {"cards": "[names.x]\n"},
    "a family without an argument": {"cards": 'entry = "Scorer"\n[families.x]\n'},
    "names that are no table": {"cards": 'entry = "Scorer"\nnames = 3\n'},
    "a package that is not there": {"cards": "", "value": "not_there_at_all"},
    "a folder that is not there": {"cards": "", "value": "theirs.missing"},
    "code that fails": {"cards": "", "start": "1 / 0", "value": "theirs.inner"},
    "code that ends the program": {
        "cards": "",
        "start": "raise SystemExit(3)",
        "value": "theirs.x",
    },
    "syntax": {"cards": "", "start": "def", "value": "theirs.inner"},
    "an odd value": {"cards": "", "value": ".relative"},
    "code that raises what is no Exception": {
        "cards": "",
        "start": "class HaltError(BaseException): pass\nraise HaltError",
        "value": "theirs.x",
    },
    "a name that is a pattern": {"cards": 'entry = "Scorer"\n[names."*"]\n'},
    "a name that is empty": {"cards": 'entry = "Scorer"\n[names.""]\n'},
    "a name for terminals": {"cards": 'entry = "Scorer"\n[names."a\\u001b[2J"]\n'},
    "a family that takes every file": {
        "cards": 'entry = "Scorer"\n[families.x]\nargument = "path"\nsuffixes = [""]\n'
    },
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_named_once_and_the_rest_works(install, case):
    install("theirs", **BROKEN[case])
    install("fine", card("fine-model"))
    result = registry()
    named = BROKEN[case].get("value", "theirs")
    with pytest.warns(T2VWarning, match=f"installed package '{named}' cannot be read") as records:
        names = result.names()
    assert len(records) == 1
    assert {"clipscore", "fine-model"} <= set(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert result.create("fine-model").card.name == "fine-model"
        with pytest.raises(UnknownNameError, match=f"cannot be read: {named} \\(.*Error|Exit"):
            result.create("theirs-model")


def test_names_and_families_of_ours_cannot_be_taken(install):
    ours = registry()
    ours.names()
    install("thief", card("clipscore", "hf-clip:openai/clip-vit-base-patch32", "their-own"))
    install("other", card(family="hf-clip") + '[families."other-own"]\nargument = "path"\n')
    result = registry()
    with pytest.warns(T2VWarning) as said:
        result.names()
    messages = [str(item.message) for item in said]
    assert len(messages) == 3
    for package, name in (
        ("thief", "clipscore"),
        ("thief", "hf-clip:openai/clip-vit-base-patch32"),
        ("other", "hf-clip:"),
    ):
        assert any(f"'{package}' has a model '{name}'" in line for line in messages), name
        assert all("'t2v_eval.backends' and stays so" in line for line in messages)
    for name in ("clipscore", "hf-clip:openai/clip-vit-base-patch32", "openai-compatible:x"):
        assert result.card(name) == ours.card(name)
    assert result.create("their-own").card.module == "thief.cards"
    assert result.create("other-own:thing").path == "thing"


def test_of_two_packages_the_first_has_the_name(install):
    install("alpha", card("alike", family="kin"))
    install("beta", card("alike", "beta-own", family="kin"))
    result = registry()
    with pytest.warns(T2VWarning, match="installed package") as said:
        first = result.card("alike").module.partition(".")[0]
    second = {"alpha": "beta", "beta": "alpha"}[first]
    messages = sorted(str(item.message) for item in said)
    assert [
        f"'{second}' has a model {name}" in line
        for name, line in zip(("'alike'", "'kin:'"), messages, strict=True)
    ] == [True, True]
    assert all(f"that of '{first}'" in line for line in messages)
    assert result.card("kin:x").module == f"{first}.cards"
    assert result.card("beta-own").module == "beta.cards"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("from theirs import gone", "gone"),
        ("", "has no attribute 'Scorer'"),
    ],
)
def test_a_module_that_fails_is_named_when_it_is_asked_for(install, code, message):
    install("theirs", card("their-model"), code)
    with pytest.raises(InputError, match=f"'their-model' cannot be built: theirs.cards.*{message}"):
        registry().create("their-model")


@pytest.mark.parametrize("arguments", [["-m", "t2v_eval", "list", "templates"], ["eval.py", "-h"]])
def test_commands_work_beside_a_broken_package(install, arguments):
    site = install("theirs", "entry = \n")
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(site), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if arguments[-1] == "-h":
        assert "warning: the models of the installed package 'theirs'" in done.stderr


def test_a_card_file_that_never_ends_is_not_read(install):
    site = install("theirs", card("theirs-model"))
    (site / "theirs" / "more.toml").symlink_to("/dev/zero")
    result = registry()
    with pytest.warns(
        T2VWarning, match=r"'theirs' cannot be read .*more\.toml is not a regular file"
    ):
        assert "tiny-clip" in result.names() and "theirs-model" not in result.names()


@pytest.mark.parametrize("points", [b"[t2v_eval.backends]\n= x\n]][\n", b"\xff = \xfe\n"])
def test_entry_points_that_cannot_be_read_are_of_their_package_alone(install, points):
    site = install("theirs", card("theirs-model"))
    install("fine", card("fine-model"))
    (site / "theirs-1.0.dist-info" / "entry_points.txt").write_bytes(points)
    result = registry()
    with pytest.warns(T2VWarning, match=r"entry points of .*theirs-1\.0.*cannot be read"):
        assert {"tiny-clip", "fine-model"} <= {*result.names()}
