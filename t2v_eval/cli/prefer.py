"""``t2v-eval prefer``: which of two images shows a text better, by a scorer of kind judge."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AllowUrls,
    NoStore,
    OnError,
    Question,
    ScorerOptionPairs,
    StorePath,
    scorer_options,
)
from t2v_eval.cli.table_input import check_images_exist, read_blocks
from t2v_eval.errors import UnsupportedError
from t2v_eval.registry import models

JudgeName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a scorer that compares pairs; `list models --kind judge` shows them.",
    ),
]
JsonAnyway = Annotated[
    bool, typer.Option("--json", help="Changes nothing: this command prints JSON in any case.")
]


def prefer(
    image_a: Annotated[str, typer.Argument(help="First image.")],
    image_b: Annotated[str, typer.Argument(help="Second image.")],
    text: Annotated[str, typer.Argument(help="Text that the images should show.")],
    model: JudgeName,
    question: Question = None,
    on_error: OnError = "error",
    store: StorePath = None,
    no_store: NoStore = False,
    allow_urls: AllowUrls = False,
    option: ScorerOptionPairs = None,
    _as_json: JsonAnyway = False,
) -> None:
    """Print as JSON which of two images shows a text better, by a scorer of kind judge.

    The model answers twice, in both orders. `value` is 1 for IMAGE_A, 0 for IMAGE_B, and 0.5 for a
    tie or for two answers that contradict each other (then `consistent` is false).
    """
    card = models.card(model)  # an unknown name is reported before torch is imported
    if on_error != "skip":
        check_images_exist(read_blocks([image_a, image_b], [text], None, ("", ""), None).blocks)
    options = scorer_options(
        question=question,
        on_error=on_error,
        store=store,
        no_store=no_store,
        allow_urls=allow_urls,
        option=option,
    )
    with console.stoppable(options.store):
        scorer = options.load(card)
        compare_pair = getattr(scorer, "prefer", None)
        if compare_pair is None:
            raise UnsupportedError(
                f"{model!r} scores single images and compares no pairs: use `t2v-eval score`, or a "
                "scorer that compares pairs (`t2v-eval list models --kind judge`)"
            )
        preference = compare_pair(image_a, image_b, text)
    row = preference._asdict()
    answers = ("value", "shown_first", "shown_second")
    row |= {name: None if row[name] != row[name] else row[name] for name in answers}
    print(json.dumps({"image_a": image_a, "image_b": image_b, "text": text, **row}))
    console.say_usage(model, scorer.usage.total if hasattr(scorer, "usage") else {})
    if row["value"] is None:
        raise SystemExit(1)
