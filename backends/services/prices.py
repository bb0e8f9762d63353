"""Prices of models and token counts of images, from the dated table beside this file."""

from __future__ import annotations

import math
import re
from functools import cache
from importlib import resources
from typing import Any

from t2v_eval.remote.cost import Price
from t2v_eval.utils.toml import read_toml

TEMPLATE_TOKENS = 12  # of the chat template around a question
VERSION = re.compile(
    r"-(\d{4}-\d\d-\d\d|\d{3})$"
)  # dated and numbered versions have the same price


@cache
def _table() -> dict[str, Any]:
    return read_toml(resources.files("t2v_eval.backends.services") / "_prices.toml")


def _row(service: str, model: str) -> dict[str, Any]:
    about = _table()[service]
    row: dict[str, Any] = about["models"].get(VERSION.sub("", model), {})
    return row and {"as_of": about["as_of"], **row}


def lookup_price(service: str, model: str) -> Price | None:
    """Return the price of a service's model; None where the table has none.

    Args:
        service: a section of the table, "openai" or "google".
        model: the service's name of the model; a date at its end is ignored.

    >>> lookup_price("openai", "no-such-model") is None
    True
    >>> lookup_price("openai", "gpt-4o-2024-08-06") == lookup_price("openai", "gpt-4o")
    True
    """
    row = _row(service, model)
    return Price(row["input"], row["output"], row.get("cached"), row["as_of"]) if row else None


def image_tokens(
    service: str, model: str, width: int, height: int, detail: str | None = None
) -> int | None:
    """Return the tokens of an image by the service's formula; None for models not in the table.

    Args:
        service: a section of the table, "openai" or "google".
        model: the service's name of the model.
        width: pixels.
        height: pixels.
        detail: resolution at which the service reads the image; None: its default.

    >>> [image_tokens("openai", "gpt-4o", *size) for size in ((1024, 1024), (300, 200))]
    [765, 255]
    >>> [image_tokens("openai", "gpt-4o", 2048, 4096, d) for d in ("high", "low")]
    [1105, 85]
    >>> image_tokens("openai", "gpt-4.1-mini", 1024, 1024), image_tokens("openai", "m", 9, 9)
    (1659, None)
    >>> [image_tokens("google", "gemini-2.5-pro", *size) for size in ((384, 300), (960, 540))]
    [258, 1548]
    """
    row = _row(service, model)
    if "crop" in row:
        if max(width, height) <= 384:
            return int(row["crop"])
        piece = min(768, max(256, math.floor(min(width, height) / 1.5)))
        return int(row["crop"]) * math.ceil(width / piece) * math.ceil(height / piece)
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
    """Estimate the tokens of a question: four bytes each, and the chat template's.

    >>> text_tokens("Does it show a cat?")
    17
    """
    return TEMPLATE_TOKENS + math.ceil(len(text.encode("utf-8", "replace")) / 4)
