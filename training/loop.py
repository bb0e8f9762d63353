"""The training loop of every stage: AdamW, warm-up, cosine decay and resumable checkpoints."""

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
) -> float:
    """Train up to `steps` in all, resuming from `checkpoint` where there is one.

    Matrix products run in bfloat16, everything else in float32: on processors with bfloat16
    this is several times faster, on others slower.

    Args:
        model: changed in place.
        loss: returns the loss of a step.
        steps: of all runs together.
        rate: the highest learning rate.
        checkpoint: the file that is written every `SAVE_EVERY` steps.

    Returns:
        The seconds spent, those of earlier runs included.
    """
    optimiser = _build_optimiser(model, rate)
    first, spent = _resume(checkpoint, model, optimiser)
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
            model.train()
    model.eval()
    return time.monotonic() - began if first < steps else spent


def _build_optimiser(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices alone."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=rate,
        betas=(0.9, 0.98),
    )


def _resume(
    checkpoint: Path, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load a checkpoint where there is one; return its step and the seconds spent until then."""
    if not checkpoint.exists():
        return 0, 0.0
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    if state["optimiser"]:
        optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["seconds"]


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / WARM_UP)
    return warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _save(path: Path, model: nn.Module, optimiser: object, step: int, seconds: float) -> None:
    """Write beside and rename, so that an interruption leaves the last complete checkpoint."""
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser,
        "step": step,
        "seconds": seconds,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
