"""``t2v-eval caption``: scores of captions, with or without human references."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.options import (
    AsJson,
    CheckpointPath,
    Device,
    NoStore,
    OnError,
    ScorerOptionPairs,
    StorePath,
    scorer_options,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import UnsupportedError
from t2v_eval.registry import ModelCard, models

Candidates = Annotated[
    Path, typer.Argument(help='JSON file of the captions to score: {"image": "caption"}.')
]
References = Annotated[
    Path | None,
    typer.Option(
        help='JSON file of human captions: {"image": ["caption", ...]}. Default: no references.',
        metavar="FILE",
    ),
]
CaptionModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        "--scorer",
        help="Name of a scorer; `list models` shows them. Default: the one marked for captions, "
        "with or without references.",
        autocompletion=model_names,
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        help="JSON file to write the scores to. Default: no file is written.", metavar="FILE"
    ),
]


def caption(
    candidates: Candidates,
    images: Annotated[Path, typer.Argument(help="Folder of the images or videos, or a glob.")],
    references: References = None,
    model: CaptionModel = None,
    out: JsonFile = None,
    on_error: OnError = "error",
    store: StorePath = None,
    no_store: NoStore = False,
    device: Device = None,
    checkpoint: CheckpointPath = None,
    option: ScorerOptionPairs = None,
    as_json: AsJson = False,
) -> None:
    """Score the captions of a folder's images or videos and print the mean.

    The JSON files name an image by its file name without the extension. References are human
    captions of the same image, for scorers that use them.
    """
    from t2v_eval.utils.files import check_file

    if out is not None:
        check_file(out)
    # An unknown name is reported before a model is loaded.
    card = models.card(model) if model else _default_scorer(bool(references))
    options = scorer_options(
        on_error=on_error,
        store=store,
        no_store=no_store,
        device=device,
        checkpoint=checkpoint,
        option=option,
    )
    from t2v_eval.evaluation.captions import Captions

    captions = Captions.read(candidates, images, references, on_error == "skip")
    with console.stoppable(options.store), Bars() as bars:
        result = captions.score(options.load(card), bars.add(card.name))
    if as_json:
        console.print_json({"means": result.means(), "scores": result.scores})
    for key, mean in () if as_json else result.means().items():
        console.show(f"{key}: {mean:.4f}")
    console.say_failures(card.name, result.counts.cells, Counter(result.failures.values()))
    if out is not None:
        result.write(out)
        console.note(f"{len(result.scores)} scores are in {out}")
    console.exit_if_all_failed(result.counts.used)


def _default_scorer(references: bool) -> ModelCard:
    """Return the card marked for captions with references, or for captions alone."""
    captions = "references" if references else "alone"
    for card in models.cards.values():
        if card.captions == captions:
            return card
    raise UnsupportedError(
        f"no scorer's card has `captions = {captions!r}`; name a scorer with --model"
    )
