"""``t2v-eval caption``: scores of captions, with or without human references."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    CheckpointPath,
    Device,
    NoStore,
    OnErrorOption,
    ScorerOptionPairs,
    StorePath,
    parse_options,
    store_path,
    without_none,
)
from t2v_eval.errors import UnsupportedError
from t2v_eval.registry import models


def caption(
    candidates: Annotated[
        Path, typer.Argument(help='JSON file of the captions to score: {"image": "caption"}.')
    ],
    images: Annotated[Path, typer.Argument(help="Folder of the images or videos.")],
    references: Annotated[
        Path | None,
        typer.Option(
            help='JSON file of human captions: {"image": ["caption", ...]}.', metavar="FILE"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            "--scorer",
            help="Name of a scorer; default: the one marked for captions.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file to write the scores to.", metavar="FILE")
    ] = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    checkpoint: CheckpointPath = None,
    option: ScorerOptionPairs = None,
) -> None:
    """Score the captions of a folder's images or videos and print the mean.

    The JSON files name an image by its file name without the extension. References are human
    captions of the same image, for scorers that use them.
    """
    from t2v_eval.utils.files import check_file

    if out is not None:
        check_file(out)
    name = model or _default_scorer("references" if references else "alone")
    scores_path = store_path(store, no_store)
    card = models.card(name)  # an unknown name is reported before a model is loaded
    from t2v_eval.evaluation.captions import Captions

    captions = Captions.read(candidates, images, references, on_error == "skip")
    from t2v_eval.api import load

    options = parse_options(option) | without_none(device=device, checkpoint=checkpoint)
    with console.stoppable(scores_path), console.Bars() as bars:
        scorer = load(card, store=scores_path, on_error=on_error, **options)  # type: ignore[arg-type]
        result = captions.score(scorer, bars.add(name))
    for key, mean in result.means().items():
        console.show(f"{key}: {mean:.4f}")
    console.say_failures(name, result.counts.cells, Counter(result.failures.values()))
    if out is not None:
        result.write(out)
        console.say(f"{len(result.scores)} scores are in {out}")
    console.exit_if_all_failed(result.counts.cells - result.counts.failed)


def _default_scorer(captions: str) -> str:
    for card in models.cards.values():
        if card.captions == captions:
            return card.name
    raise UnsupportedError(f"no card says `captions = {captions!r}`; name a scorer with --model")
