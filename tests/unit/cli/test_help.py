"""--help of each command, its example, and shell completion."""

import os
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from t2v_eval.cli.help.completion import benchmark_names, model_names, template_names
from t2v_eval.cli.main import app
from t2v_eval.registry import models


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ROOT = typer.main.get_command(app)
PATHS = [*commands(ROOT)]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_each_help_ends_in_an_example_that_parses(path):
    command = ROOT
    for name in path:
        command = command.commands[name]
    text = " ".join(CliRunner().invoke(app, [*path, "--help"]).stdout.split())
    example = (command.epilog or "").partition("Example: ")[2]
    assert example and " ".join(example.split()) in text
    words = shlex.split(example)
    assert words[: len(path) + 1] == ["t2v-eval", *path]
    command.make_context(path[-1], words[len(path) + 1 :])  # raises where it does not parse


@pytest.mark.parametrize("group", ["", "store", "report", "reports"])
def test_the_help_of_a_group_has_the_example_of_a_command(group):
    text = " ".join(CliRunner().invoke(app, [*group.split(), "--help"]).stdout.split())
    assert f"Example: t2v-eval {group}".rstrip() in text


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_paragraphs_of_a_help_are_folded_by_the_terminal_alone(path):
    command = ROOT
    for name in path:
        command = command.commands[name]
    assert all("\n" not in paragraph for paragraph in command.help.split("\n\n"))


def test_names_are_completed():
    assert {name for name, _ in model_names("tiny-")} == set(models.names("tiny-*"))
    assert benchmark_names("sce")[0][0] == "scenes" and model_names("no-such") == []
    assert "vqascore" in template_names("vqa")


COMPLETING = """
import os, sys
from t2v_eval.cli.main import app
for line in sys.argv[1:]:
    words = f"t2v-eval {line}"
    os.environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    try:
        app(prog_name="t2v-eval")
    except SystemExit as stop:
        assert not stop.code, line
    print("end of a line")
assert "torch" not in sys.modules
"""


def test_the_shell_completes_without_torch():
    lines = {
        "score --model tiny-c": "tiny-clip",
        "eval -b scen": "scenes",
        "data drawb": "drawbench",
        "comp": "compare",
        "score --templ": "--template",
    }
    done = subprocess.run(
        [sys.executable, "-c", COMPLETING, *lines],
        capture_output=True,
        text=True,
        env=os.environ | {"_T2V_EVAL_COMPLETE": "complete_bash"},
    )
    assert done.returncode == 0, done.stderr
    *completions, rest = done.stdout.split("end of a line\n")
    assert rest == ""
    for (line, name), words in zip(lines.items(), completions, strict=True):
        assert name in words.split(), line
