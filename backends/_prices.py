"""What a model costs and how many tokens a picture is, from the dated table beside this file."""

from __future__ import annotations

import math
import re
from functools import cache
from importlib import resources
from typing import Any

from t2v_eval._toml import read_toml
from t2v_eval.cost import Price

AROUND = 12  # tokens that stand around a question


@cache
def _table() -> dict[str, Any]:
    return read_toml(resources.files("t2v_eval.backends") / "openai_prices.toml")


def _row(model: str) -> dict[str, Any]:
    """The row of a model; a dated version of one (``gpt-4o-2024-08-06``) costs as much."""
    prices: dict[str, dict[str, Any]] = _table()["prices"]
    return prices.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", model), {})


def price_of(model: str) -> Price | None:
    """The price of a model, where the table has it."""
    row = _row(model)
    if not row:
        return None
    return Price(row["input"], row["output"], row.get("cached"), _table()["as_of"])


def picture_tokens(model: str, width: int, height: int, detail: str | None) -> int | None:
    """How many tokens a picture is, as OpenAI describes it; None for models not in the table.

    >>> picture_tokens("gpt-4o", 1024, 1024, None), picture_tokens("gpt-4o", 2048, 4096, "high")
    (765, 1105)
    >>> picture_tokens("gpt-4o", 4096, 8192, "low"), picture_tokens("gpt-4o", 300, 200, None)
    (85, 255)
    >>> picture_tokens("gpt-4.1-mini", 1024, 1024, None), picture_tokens("other", 9, 9, None)
    (1659, None)
    """
    row = _row(model)
    if "patch" in row:
        shrink = min(1.0, math.sqrt(1536 * 32 * 32 / (width * height)))
        patches = math.ceil(width * shrink / 32) * math.ceil(height * shrink / 32)
        return math.ceil(min(1536, patches) * float(row["patch"]))
    if "tile" not in row:
        return None
    base, tile = row["tile"]
    if detail == "low":
        return int(base)
    fits = min(1.0, 2048 / max(width, height))
    fits *= min(1.0, 768 / (min(width, height) * fits))
    return int(base + tile * math.ceil(width * fits / 512) * math.ceil(height * fits / 512))


def text_tokens(text: str) -> int:
    """About how many tokens a question is: four bytes each, and what stands around it."""
    return AROUND + math.ceil(len(text.encode("utf-8", "replace")) / 4)
