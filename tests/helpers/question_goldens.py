"""Goldens of question scorers: what the originals returned for odd inputs.

Made by running GenEval af4902f (evaluation/evaluate_images.py, detections and colours given), DSG
7330119 (vqa_utils.py, parse_utils.py), TIFA 8e37050 (question_gen.py, question_filter.py) and
GenEval 2 a6e82d2 (soft_tifa_analysis.py). A result is exact, floats to 1e-9; "raises" names the
exception of the original.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "goldens" / "question_generation" / "cases.json"


def question_cases(kind: str) -> list[Any]:
    return [case for case in json.loads(FILE.read_text()) if case["kind"] == kind]


def numbered(kind: str) -> dict[str, Any]:
    """Arguments of `pytest.mark.parametrize` for the cases of a kind."""
    cases = question_cases(kind)
    return {"argvalues": cases, "ids": [case["id"] for case in cases]}
