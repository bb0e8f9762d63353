"""One training loop for every stage: AdamW, warm-up, cosine, and a checkpoint to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Loss = Callable[[int, float], Tensor]  # (step, progress from 0 to 1) -> loss
WARM_UP = 100
SAVE_EVERY = 100


def train(
    model: nn.Module,
    loss: Loss,
    *,
    steps: int,
    rate: float,
    checkpoint: Path,
    every: Callable[[int], None] = lambda step: None,
) -> float:
    """Train for ``steps`` in all, going on from ``checkpoint`` where there is one.

    Matrix products run in bfloat16, everything else in float32: on processors that have bfloat16
    this is several times faster, on others it is only slower, never different in kind.
    Returns the seconds spent, those of earlier runs included.
    """
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    first, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        if state["optimiser"]:
            optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["seconds"]
    began, running = time.monotonic() - spent, 0.0
    model.train()
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * _schedule(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(step, step / steps)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        running = 0.98 * running + 0.02 * value.item() if step > first else value.item()
        done = step + 1
        if done % SAVE_EVERY == 0 or done == steps:
            seconds = time.monotonic() - began
            name = checkpoint.stem
            print(f"{name} {done}/{steps} loss {running:.4f} {seconds:.0f} s", flush=True)
            finished = {} if done == steps else optimiser.state_dict()
            _save(checkpoint, model, finished, done, seconds)
            every(done)
            model.train()
    model.eval()
    return time.monotonic() - began if first < steps else spent


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save(path: Path, model: nn.Module, optimiser: object, step: int, seconds: float) -> None:
    """Written beside and renamed: a kill in between leaves the last whole checkpoint."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser,
        "step": step,
        "seconds": seconds,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
