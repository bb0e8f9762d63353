"""What a user installs: one package, with cards, templates and the embedded models inside."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a package is built of: setuptools writes build/ and *.egg-info beside it."""
    copied = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    ).stdout.splitlines()
    for name in tracked:
        if name.startswith(("tests/", "training/")) or not (ROOT / name).is_file():
            continue
        target = copied / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return copied


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
            *("-w", str(folder), str(source)),
        ],
        check=True,
    )
    return zipfile.ZipFile(next(folder.glob("t2v_eval-*.whl")))


def test_the_wheel_holds_one_package_and_all_its_data(wheel):
    names = set(wheel.namelist())
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"t2v_eval"}
    assert wheel.read(next(n for n in names if n.endswith("top_level.txt"))).split() == [
        b"t2v_eval"
    ]
    for folder in ("backends", "benchmarks", "templates"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"t2v_eval/{path.relative_to(ROOT).as_posix()}" in names
    core = {path for path in (ROOT / "t2v_eval").rglob("*") if path.is_file()}
    core = {path for path in core if "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in core} <= names
    page = {f"t2v_eval/report/report.{kind}" for kind in ("html", "css", "js", "schema.json")}
    page |= {f"t2v_eval/votes/page.{kind}" for kind in ("html", "css", "js")}
    assert {"t2v_eval/py.typed", *page} <= names


def test_a_checkout_exposes_its_three_sub_packages_and_nothing_else():
    exposed = {"backends", "benchmarks", "templates"}
    for name in exposed:
        module = importlib.import_module(f"t2v_eval.{name}")
        assert Path(module.__file__).parent == ROOT / name
    others = {path.stem for path in ROOT.iterdir() if path.stem.isidentifier()} - exposed
    assert {"tests", "t2v_eval", "training", "eval"} <= others
    for name in others:
        assert importlib.util.find_spec(f"t2v_eval.{name}") is None, name


def test_the_embedded_models_stay_small(wheel):
    embedded = [i for i in wheel.infolist() if "/embedded/" in i.filename]
    assert sum(i.file_size for i in embedded) <= 8 * 2**20


def test_the_wheel_works_without_a_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import t2v_eval; print(t2v_eval.__file__, len(t2v_eval.list_models()), "
        "len(t2v_eval.list_benchmarks()), len(t2v_eval.list_templates()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    file, *counts = done.stdout.split()
    assert file.startswith(str(tmp_path))
    assert all(int(count) > 0 for count in counts)


def test_the_source_distribution_holds_what_explains_it_and_no_tests(source, tmp_path):
    (source / "tests").mkdir()
    (source / "tests" / "test_something.py").write_text("")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=source)
    with tarfile.open(next(tmp_path.glob("t2v_eval-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not {name for name in names if name.startswith("tests")}
    expected = {path.name for path in ROOT.glob("*.md")} | {"Makefile", "eval.py", "pyproject.toml"}
    expected |= {f"docs/{path.name}" for path in (ROOT / "docs").iterdir()}
    assert expected | {"t2v_eval/report/report.html", "t2v_eval/__init__.py"} <= names


def test_the_version_stands_in_one_place_and_is_repeated_right(wheel):
    from t2v_eval import __version__

    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {__version__}\n" in wheel.read(metadata).decode()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    first = next(line for line in changes.splitlines() if line.startswith("## "))
    assert first.split()[1] in (__version__, "Unreleased")
