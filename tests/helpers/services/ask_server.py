"""Asks a server about its own images and texts, for tests that kill or interrupt it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from helpers.services.loopback import Request, Server
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
        defaults = {
            "base_url": address + self.path,
            "api_key": "k",
            "backoff": 0.02,
            "timeout": 60.0,
        }
        return t2v_eval.load(name or own, **{**defaults, **options})

    def cell(self, body: Any) -> str:
        """What `Request.cell` is of a request that a scorer makes."""
        if self.name == "gemini":
            options = {"mode": "json", "by_alias": True, "exclude_none": True}
            body = {"contents": [body["contents"].model_dump(**options)]}
        return Request("POST", "", {}, body).cell

    def time_out_where_stuck(self, scorer: Any, server: Server) -> t2v_eval.Scorer:
        """Let a question time out as soon as its request hangs, and no other ever."""
        spoken, timed_out = self, Counter(server.stuck)

        class Impatient(type(scorer)):  # type: ignore[misc]
            __module__ = type(scorer).__module__

            async def score_cell(self, image: Any, text: str) -> Any:
                cell = spoken.cell(self.build_question(image, text))
                task = asyncio.ensure_future(super().score_cell(image, text))
                try:
                    while not task.done():
                        if server.stuck[cell] > timed_out[cell]:
                            timed_out[cell] += 1
                            raise TimeoutError
                        await asyncio.wait([task], timeout=0.002)
                    return task.result()
                finally:
                    task.cancel()

        scorer.__class__ = Impatient
        return scorer  # type: ignore[no-any-return]


def draw_images(count: int) -> list[Any]:
    return [draw_image(seed) for seed in range(count)]


def texts(count: int) -> list[str]:
    return [f"{n} cats" for n in range(count)]


def scorer_of(server: Server | str, **options: Any) -> t2v_eval.Scorer:
    return Spoken("openai").load(server, **options)


def main() -> None:
    """Ask as `sys.argv` says: SERVICE ADDRESS STORE IMAGES TEXTS CONCURRENCY KEY."""
    service, address, store, *numbers, key = sys.argv[1:]
    n_images, n_texts, concurrency = map(int, numbers)
    asking: dict[str, Any] = {"store": store, "on_error": "skip", "concurrency": concurrency}
    asking |= {"retries": 20, "timeout": 600.0, "api_key": key}
    scorer = Spoken(service).load(address, **asking)
    outcome = scorer.evaluate_blocks([Block(draw_images(n_images), texts(n_texts))])
    print(outcome.counts)
