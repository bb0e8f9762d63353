"""Asks a server about its own pictures and texts, for tests that kill or interrupt it.

python tests/asking.py ADDRESS STORE PICTURES TEXTS CONCURRENCY
"""

from __future__ import annotations

import sys

import torch
from toy import picture

import t2v_eval
from t2v_eval.plan import Block


def pictures(count: int) -> list[object]:
    return [picture(seed) for seed in range(count)]


def texts(count: int) -> list[str]:
    return [f"{n} cats" for n in range(count)]


def scorer_of(address: str, **options: object) -> t2v_eval.Scorer:
    given = {"base_url": address, "backoff": 0.02, "timeout": 1.0, **options}
    return t2v_eval.load("openai-compatible:m", **given)


if __name__ == "__main__":
    address, store, *numbers = sys.argv[1:]
    n_images, n_texts, concurrency = map(int, numbers)
    torch.set_num_threads(1)
    scorer = scorer_of(address, store=store, on_error="skip", concurrency=concurrency)
    outcome = scorer.evaluate_blocks([Block(pictures(n_images), texts(n_texts))])
    print(outcome.counts)
