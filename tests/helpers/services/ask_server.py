"""Asks a server about its own images and texts, for tests that kill or interrupt it.

python tests/helpers/services/ask_server.py SERVICE ADDRESS STORE PICTURES TEXTS CONCURRENCY
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from helpers.services.loopback import Server
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.scoring.plan import Block

needs_gemini = pytest.mark.skipif(
    not (find_spec("google") and find_spec("google.genai")),
    reason="google-genai is not installed: pip install 't2v-eval[gemini]'",
)
SERVICES = ["openai", pytest.param("gemini", marks=needs_gemini)]


@dataclass(frozen=True)
class Spoken:
    """How a service is asked, and its protocol (`openai_server.py`, `gemini_server.py`)."""

    name: str

    def __getattr__(self, what: str) -> Any:
        return getattr(importlib.import_module(f"helpers.services.{self.name}_server"), what)

    @property
    def path(self) -> str:
        return "/v1" if self.name == "openai" else ""

    def load(self, server: Server | str, name: str = "", **options: Any) -> t2v_eval.Scorer:
        """A scorer that asks this server, quickly."""
        address = server if isinstance(server, str) else server.address
        own = {"openai": "openai-compatible:m", "gemini": "gemini:m"}[self.name]
        given = {"base_url": address + self.path, "api_key": "k", "backoff": 0.02, "timeout": 1.0}
        return t2v_eval.load(name or own, **{**given, **options})


def draw_images(count: int) -> list[Any]:
    return [draw_image(seed) for seed in range(count)]


def texts(count: int) -> list[str]:
    return [f"{n} cats" for n in range(count)]


def scorer_of(server: Server | str, **options: Any) -> t2v_eval.Scorer:
    return Spoken("openai").load(server, **options)


if __name__ == "__main__":
    import torch

    service, address, store, *numbers = sys.argv[1:]
    n_images, n_texts, concurrency = map(int, numbers)
    torch.set_num_threads(1)
    asking: dict[str, Any] = {"store": store, "on_error": "skip", "concurrency": concurrency}
    asking |= {"retries": 20, "timeout": 600.0}
    scorer = Spoken(service).load(address, **asking)
    outcome = scorer.evaluate_blocks([Block(draw_images(n_images), texts(n_texts))])
    print(outcome.counts)
