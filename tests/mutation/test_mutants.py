"""The list of planted faults is true to the code, and the script that plants them works."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def load_script():
    spec = importlib.util.spec_from_file_location(
        "mutation_run", Path(__file__).with_name("run.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


run = load_script()


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in run.mutants()}))
def test_each_fault_can_be_planted(file):
    source = (ROOT / file).read_text(encoding="utf-8")
    for mutant in run.mutants():
        if mutant.file == file:
            hint = "change the old text in tests/mutation/mutants.toml as the code has changed"
            assert source.count(mutant.old) == 1, f"{mutant.fault}: {mutant.old!r}; {hint}"
            compile(source.replace(mutant.old, mutant.new), file, "exec")


def test_the_tests_that_may_catch_them_exist():
    for test in {test for mutant in run.mutants() for test in mutant.tests}:
        assert (ROOT / test).is_file(), test


def test_no_fault_is_listed_twice():
    listed = [(mutant.file, mutant.old, mutant.new) for mutant in run.mutants()]
    assert len(set(listed)) == len(listed) >= 60


def test_a_fault_is_planted_in_the_copy_alone(tmp_path):
    mutant = run.mutants()[0]
    (tmp_path / mutant.file).parent.mkdir(parents=True)
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    (tmp_path / mutant.file).write_text(source, encoding="utf-8")
    assert mutant.apply(tmp_path) == source == (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.new in (tmp_path / mutant.file).read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="holds 0 times"):
        mutant.apply(tmp_path)


def test_the_page_counts_them_and_names_survivors():
    first, second, third, *_ = run.mutants()
    text = run.page([(first, "caught"), (second, "caught"), (third, "survived")], "2026-01-01")
    assert "2 of 3 planted faults" in text and f"| `{first.file}` | 3 | 2 |" in text
    assert f"- `{third.file}`: {third.fault} (survived)" in text
    assert "None." in run.page([(first, "caught")], "2026-01-01")
