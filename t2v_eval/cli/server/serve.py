"""``t2v-eval serve``: score over HTTP for other programs and machines."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.api import ScorerOptions, check_entries
from t2v_eval.cli import console
from t2v_eval.cli.options import ModelNames
from t2v_eval.errors import MissingPackageError
from t2v_eval.registry import models

Port = Annotated[
    int, typer.Option(help="Port to listen on; 0 for any that is free.", min=0, max=65535)
]
Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on: by default this machine alone; 0.0.0.0 for all networks, which "
        "needs --token-file.",
        metavar="ADDRESS",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the token that clients must send, of 16 characters or more.",
        metavar="FILE",
    ),
]
Waiting = Annotated[
    int,
    typer.Option(help="Requests that may wait for a scorer; further ones get status 429.", min=1),
]
Seconds = Annotated[
    float,
    typer.Option(help="Seconds after which a request gets status 504.", min=0.001),
]
BodyMegabytes = Annotated[
    int, typer.Option("--max-body", help="Megabytes of a request.", min=1, metavar="MB")
]
Cells = Annotated[
    int,
    typer.Option(
        "--max-cells",
        help="Images times texts of a request, and of requests that are scored together.",
        min=1,
    ),
]
Pixels = Annotated[int, typer.Option("--max-pixels", help="Pixels of an image.", min=1)]


def serve(
    options: ScorerOptions,
    model: ModelNames,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    token_file: TokenFile = None,
    max_waiting: Waiting = 256,
    timeout: Seconds = 120.0,
    max_cells: Cells = 4096,
    max_body: BodyMegabytes = 64,
    max_pixels: Pixels = 50_000_000,
) -> None:
    """Score over HTTP until Ctrl-C or SIGTERM; open requests are answered first.

    Images and texts are posted to /v1/score as JSON; /docs describes it. In Python,
    `t2v_eval.load("remote:http://HOST:PORT/MODEL")` is a scorer that asks the server. Requests of
    several clients are scored together. A score that fails is null, with its reason.
    """
    cards = [models.card(name) for name in dict.fromkeys(model)]
    try:
        run = import_module("t2v_eval.server.run")
    except ImportError as error:
        raise MissingPackageError(
            f"serve needs the package {error.name!r}: pip install 't2v-eval[server]'"
        ) from error
    from t2v_eval.server.access import check_host, read_token
    from t2v_eval.server.requests import ServerLimits

    token = "" if token_file is None else read_token(token_file)
    check_host(host, token)
    check_entries(cards)
    limits = ServerLimits(
        body_bytes=max_body << 20,
        pixels=max_pixels,
        cells=max_cells,
        waiting=max_waiting,
        seconds=timeout,
        allow_urls=options.allow_urls or False,
    )
    run.listen(host, port).close()  # before a model is loaded, which may take minutes
    scorers = [options.for_card(card, cards).load(card) for card in cards]
    with console.stoppable(options.store, "requests that had arrived are answered"):
        names = ", ".join(scorer.name for scorer in scorers)
        run.serve(scorers, host, port, token, limits, partial(_announce, names))


def _announce(names: str, address: str) -> None:
    console.note(f"serving {names} at {address}; {address}/docs describes it, Ctrl-C stops it")
