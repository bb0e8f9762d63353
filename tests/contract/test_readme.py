"""README says what the cards say, and its Python runs."""

from __future__ import annotations

import ast
import re

from helpers.readme_tables import README, filled

import t2v_eval
from t2v_eval.registry import models

TEXT = README.read_text(encoding="utf-8")


def test_its_tables_are_made_from_the_cards():
    assert filled(TEXT) == TEXT, "run: python tests/helpers/readme_tables.py"


def test_every_name_it_uses_exists():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "t2v_eval":
                assert node.attr in t2v_eval.__all__


def test_every_model_it_names_is_there():
    named = set(re.findall(r'(?:score|load)\("([^"]+)"', TEXT))
    named |= set(re.findall(r"--model ([\w:.-]+)", TEXT))
    assert named
    for name in named:
        assert models.card(name).name == name
