"""``t2v-eval prefer``: which of two pictures shows a text better, as a judge says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AllowUrls,
    NoStore,
    OnErrorOption,
    Options,
    Question,
    StorePath,
    check_pictures,
    default_store,
    given,
    parse_options,
    read_blocks,
)
from t2v_eval.errors import UnsupportedError
from t2v_eval.registry import models


def prefer(
    image_a: Annotated[str, typer.Argument(help="A picture.")],
    image_b: Annotated[str, typer.Argument(help="The other one.")],
    text: Annotated[str, typer.Argument(help="What both should show.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The name of a judge of pairs.")],
    question: Question = None,
    on_error: OnErrorOption = "raise",
    store: StorePath = None,
    no_store: NoStore = False,
    allow_urls: AllowUrls = False,
    option: Options = None,
) -> None:
    """Ask a judge which of two pictures shows a text better, in both orders, and print JSON.

    `value` is 1 for IMAGE_A, 0 for IMAGE_B and 0.5 for neither, or where the two answers contradict
    each other, which `consistent` says. `list models --kind judge` shows the judges.
    """
    models.card(model)  # what is wrong is said before torch is imported
    blocks, _, _ = read_blocks([image_a, image_b], [text], None, ("", ""), None)
    if on_error == "raise":
        check_pictures(blocks)
    kept: Path | None = None if no_store else store or default_store()
    options = parse_options(option) | given(question_template=question)
    if allow_urls:
        options.setdefault("allow_urls", True)
    from t2v_eval.api import load

    with console.stoppable(kept):
        judge = load(model, store=kept, on_error=on_error, **options)  # type: ignore[arg-type]
        ask = getattr(judge, "prefer", None)
        if ask is None:
            raise UnsupportedError(
                f"{model!r} scores single pictures and compares none: use `t2v-eval score`, or a "
                "judge of pairs (`t2v-eval list models --kind judge`)"
            )
        found = ask(image_a, image_b, text)
    row = found._asdict()
    answers = ("value", "shown_first", "shown_second")
    row |= {name: None if row[name] != row[name] else row[name] for name in answers}
    print(json.dumps({"image_a": image_a, "image_b": image_b, "text": text, **row}))
    console.say_usage(model, judge.usage.total if hasattr(judge, "usage") else {})
    if row["value"] is None:
        raise SystemExit(1)
