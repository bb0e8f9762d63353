"""README is short, its names exist, and its links lead to files of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.doc_blocks import blocks_of
from helpers.doc_names import check_block

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150


@pytest.mark.parametrize("number", range(len(blocks_of(TEXT))))
def test_every_name_and_option_it_uses_exists(number):
    check_block(blocks_of(TEXT)[number])


def test_its_links_lead_to_files():
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", TEXT)]
    assert targets
    missing = [t for t in targets if not t.startswith("http") and not (README.parent / t).exists()]
    assert not missing
