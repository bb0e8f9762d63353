"""``t2v-eval prefer``: which of two images a judge model finds to show a text better."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AllowUrls,
    NoStore,
    OnErrorOption,
    Question,
    ScorerOptionPairs,
    StorePath,
    check_images_exist,
    parse_options,
    read_blocks,
    store_path,
    without_none,
)
from t2v_eval.errors import UnsupportedError
from t2v_eval.registry import models


def prefer(
    image_a: Annotated[str, typer.Argument(help="First image.")],
    image_b: Annotated[str, typer.Argument(help="Second image.")],
    text: Annotated[str, typer.Argument(help="Text that the images should show.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Name of a scorer that compares pairs; `list models --kind judge` shows them.",
        ),
    ],
    question: Question = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    allow_urls: AllowUrls = False,
    option: ScorerOptionPairs = None,
) -> None:
    """Ask a model which of two images shows a text better, and print its answer as JSON.

    It is asked twice, in both orders. `value` is 1 for IMAGE_A, 0 for IMAGE_B, and 0.5 for a tie or
    for two answers that contradict each other (then `consistent` is false).
    """
    card = models.card(model)  # an unknown name is reported before torch is imported
    if on_error == "raise":
        check_images_exist(read_blocks([image_a, image_b], [text], None, ("", ""), None).blocks)
    scores_path = store_path(store, no_store)
    options = parse_options(option) | without_none(question_template=question)
    if allow_urls:
        options.setdefault("allow_urls", True)
    from t2v_eval.api import load

    with console.stoppable(scores_path):
        scorer = load(card, store=scores_path, on_error=on_error, **options)  # type: ignore[arg-type]
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
