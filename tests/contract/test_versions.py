"""The lock holds what pyproject.toml asks for, and the lowest versions can be named."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from t2v_eval.backends.common.tested_versions import NEWEST_TESTED

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [
    Requirement(line)
    for line in [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
]


@pytest.fixture(scope="module")
def locked():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_the_lock_holds_a_version_that_is_asked_for(locked, requirement):
    version = locked[canonicalize_name(requirement.name)]
    assert version in requirement.specifier, "run: make lock"


def test_the_lock_holds_versions_alone_and_no_builds_of_one_machine(locked):
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://| @ |^-|\+", text, re.MULTILINE)
    assert "t2v-eval" not in locked and "pip" not in locked


def test_the_lowest_versions_are_those_of_pyproject():
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest_versions"]
    assert list(lowest(["torch>=2.6", "open_clip_torch>=3.0"])) == [
        "torch==2.6",
        "open_clip_torch==3.0",
    ]
    with pytest.raises(ValueError, match=r"'numpy<3' .* no lower bound"):
        list(lowest(["numpy<3"]))


@pytest.mark.parametrize("name", NEWEST_TESTED)
def test_the_newest_tested_versions_are_those_of_the_lock(locked, name):
    assert Version(NEWEST_TESTED[name]) == locked[canonicalize_name(name)]
