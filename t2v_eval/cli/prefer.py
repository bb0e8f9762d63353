"""``t2v-eval prefer``: which of two images shows a text better, by a scorer of kind judge."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.inputs.image_arguments import expand_images
from t2v_eval.cli.inputs.table_input import RowColumns, check_images_exist, read_blocks
from t2v_eval.cli.options import (
    AllowUrls,
    NoStore,
    OnError,
    Question,
    ScorerOptionPairs,
    StorePath,
    scorer_options,
)
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import models

JudgeName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a scorer that compares pairs; `list models --kind judge` shows them.",
        autocompletion=model_names,
    ),
]
JsonAnyway = Annotated[
    bool,
    typer.Option("--json", help="Print one list of several pairs; one pair is JSON in any case."),
]


def prefer(
    image_a: Annotated[str, typer.Argument(help="First image, or a folder or glob of images.")],
    image_b: Annotated[
        str, typer.Argument(help="Second image; of a folder or glob, as many images.")
    ],
    text: Annotated[str, typer.Argument(help="Text that the images should show.")],
    model: JudgeName,
    question: Question = None,
    on_error: OnError = "error",
    store: StorePath = None,
    no_store: NoStore = False,
    allow_urls: AllowUrls = False,
    option: ScorerOptionPairs = None,
    as_json: JsonAnyway = False,
) -> None:
    """Print as JSON which of two images shows a text better, by a scorer of kind judge.

    The model answers twice, in both orders. `value` is 1 for IMAGE_A, 0 for IMAGE_B, and 0.5 for a
    tie or for two answers that contradict each other (then `consistent` is false). Of two folders
    or globs, the first image of one is compared with the first of the other and so on, by name; one
    line is printed for each pair, and with --json one list.
    """
    card = models.card(model)  # an unknown name is reported before torch is imported
    pairs = _pairs(image_a, image_b)
    if on_error != "skip":
        images = [image for pair in pairs for image in pair]
        check_images_exist(read_blocks(images, [text], None, RowColumns("", ""), None).blocks)
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
                f"{model!r} compares no pairs: use `t2v-eval score`, or a "
                "scorer that compares pairs (`t2v-eval list models --kind judge`)"
            )
        rows = [
            {"image_a": a, "image_b": b, "text": text, **compare_pair(a, b, text)._asdict()}
            for a, b in pairs
        ]
    answers = ("value", "shown_first", "shown_second")
    rows = [
        row | {name: None if row[name] != row[name] else row[name] for name in answers}
        for row in rows
    ]
    if as_json and len(rows) > 1:
        console.print_json(rows)
    else:
        for row in rows:
            print(json.dumps(row))
    console.say_usage(model, scorer.usage.total if hasattr(scorer, "usage") else {})
    if all(row["value"] is None for row in rows):
        raise SystemExit(1)


def _pairs(image_a: str, image_b: str) -> list[tuple[str, str]]:
    """Return what two arguments stand for, in pairs by position."""
    first, second = expand_images([image_a]), expand_images([image_b])
    if len(first) != len(second):
        raise InputError(
            f"{image_a} stands for {len(first)} images and {image_b} for {len(second)}: pass two "
            "images, or two folders or globs of as many images"
        )
    return list(zip(first, second, strict=True))
