"""``--engine``: where the scorers of a command run, in this process or on workers of Ray."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.errors import InputError

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Where scorers run: in this process (local), or on workers of Ray, on this machine or "
        "a cluster, that share the images (ray)."
    ),
]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        help="With --engine ray, the number of workers, 1 or more. Default: as many as the GPUs "
        "suffice for; without GPUs, one for each CPU.",
        metavar="N",
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        help="With --engine ray, the GPUs of each worker, or a share of one, such as 0.5. Default: "
        "1, or 0 where there are none.",
        metavar="N",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="With --engine ray, the address of a cluster, such as auto on one of its machines, or "
        "HOST:6379. Default: RAY_ADDRESS, else Ray is started on this machine.",
        metavar="ADDRESS",
    ),
]


def engine_options(
    engine: Engine = "local",
    workers: WorkerCount = None,
    gpus_per_worker: GpusPerWorker = None,
    ray_address: RayAddress = None,
) -> dict[str, Any] | None:
    """Return the options of `RayEngine` that flags set; None for no engine.

    Raises:
        InputError: they are set without --engine ray.
    """
    options = {"workers": workers, "gpus_per_worker": gpus_per_worker, "ray_address": ray_address}
    if engine == "ray":
        return options
    for name, value in options.items():
        if value is not None:
            raise InputError(f"`{name}={value!r}` is of workers of Ray: add `engine='ray'`")
    return None


def with_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of `engine_options` to a command, whose `options` then load on the workers.

    The workers end with the command, however it ends.

    Args:
        command: a command with the parameters `options`, `shard` and `dry_run`.
    """
    ours = inspect.signature(engine_options, eval_str=True).parameters
    parameters = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapper(options: ScorerOptions, **values: Any) -> None:
        chosen = engine_options(**{name: values.pop(name) for name in ours})
        if chosen is None or values["dry_run"]:
            command(options=options, **values)
            return
        if values["shard"] is not None:
            raise InputError(
                f"`shard={values['shard']!r}` is for workers that are started one by one: leave it "
                "out, as Ray's workers share all images"
            )
        from t2v_eval.cluster.engine import EngineOptions, RayEngine

        with RayEngine(**chosen) as engine:
            command(options=EngineOptions.on(engine, options), **values)

    both = [p.replace(kind=p.KEYWORD_ONLY) for p in (*parameters.values(), *ours.values())]
    wrapper.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in both}
    return wrapper
