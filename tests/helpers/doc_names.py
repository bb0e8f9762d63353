"""Whether the names and options that a code block of the documentation uses exist."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from helpers import site_hooks
from helpers.doc_blocks import Block, commands_of

import t2v_eval
from t2v_eval.inputs.template import templates
from t2v_eval.registry import benchmarks, models
from t2v_eval.utils.signatures import accepted, source_of

ROOT = Path(__file__).parents[2]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
LAUNCHERS = ("torchrun", "srun")  # programs that start several workers of a command
PROGRAMS = set("cat cd export git pip python".split()) | {"."}
CALL = ("references", "question_template", "answer_template", "template")  # of `score`
LOADERS = ("load", "score", "VQAScore", "CLIPScore", "ITMScore")


def check_block(block: Block) -> None:
    """Check one block.

    Raises:
        AssertionError: it names a command, option, scorer, benchmark, template, or name of the
            library that does not exist.
        SyntaxError: it is not Python.
    """
    if block.language == "python":
        check_python(block.code)
    elif block.language == "sh":
        for words in commands_of(block):
            check_command(words)


def check_python(code: str) -> None:
    """Check the syntax, imports of the library, and the names of scorers."""
    tree = ast.parse(code)
    aliases = {"t2v_eval"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {a.asname for a in node.names if a.name == "t2v_eval" and a.asname}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("t2v_eval"):
            for alias in node.names:
                assert hasattr(import_module(str(node.module)), alias.name), alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in aliases:
            assert node.attr in t2v_eval.__all__, f"t2v_eval.{node.attr}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in LOADERS:
            check_load(node)


def check_load(call: ast.Call) -> None:
    """Check the scorer and the template that a call names."""
    keywords = {k.arg: k.value for k in call.keywords}
    name = call.args[0] if call.args else keywords.get("model")
    if isinstance(name, ast.Constant):
        check_model(str(name.value))
        check_options(str(name.value), [k.arg for k in call.keywords if k.arg])
    template = keywords.get("template")
    if isinstance(template, ast.Constant) and not str(template.value).startswith("t2v-"):
        assert template.value in templates(), template.value


def check_model(name: str) -> None:
    """Check that a scorer has this name; "colour" is registered by a tutorial."""
    assert name == "colour" or models.card(name).name == name


def check_options(name: str, keys: list[str]) -> None:
    """Check that a scorer takes these arguments."""
    if name == "colour":
        return
    card = models.card(name)
    takes = accepted(source_of(card.file, card.module), card.entry)
    assert takes is None or set(keys) <= takes | {"model", *CALL}, (name, keys)


def check_command(words: list[str]) -> None:
    """Check a command with its subcommand, options and values."""
    if words[0] in LAUNCHERS:
        words = words[next(n for n, w in enumerate(words) if w in ("t2v_eval", "t2v-eval")) :]
    program, *rest = words
    if program == "make":
        assert set(rest) <= TARGETS, words
        return
    if program not in ("t2v-eval", "t2v_eval"):
        assert program in PROGRAMS, words
        return
    commands = site_hooks.load("commands").commands()
    name = " ".join(rest[:2]) if " ".join(rest[:2]) in commands else rest[0]
    assert name in commands, words
    options = {o: p for p in commands[name].params for o in [*p.opts, *p.secondary_opts]}
    pairs = list(pairwise([*rest, ""]))
    for word, value in pairs:
        if not word.startswith("-"):
            continue
        assert word in options, f"{name} has no option {word}"
        if word == "--model":
            check_model(value)
        elif word == "--benchmark" and not re.search(r"\.csv$|^dataset:", value):
            assert benchmarks.card(value).name == value
        elif word == "--template":
            assert value in templates(), value
    keys = [value.partition("=")[0] for word, value in pairs if word == "--option"]
    for model in [value for word, value in pairs if word == "--model"]:
        check_options(model, keys)
    if name == "data":
        assert rest[1].isupper() or rest[1] in models.cards or benchmarks.card(rest[1])
