"""``t2v-eval prefer``: which of two images shows a text better, by a scorer of kind judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.inputs.image_arguments import expand_images
from t2v_eval.cli.inputs.table_input import check_image_file, image_label
from t2v_eval.cli.options import check_text
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.registry import models

if TYPE_CHECKING:
    from t2v_eval.scoring.preferences import Preference

JudgeName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Name of a scorer that compares pairs; `list models --kind judge` shows them.",
        autocompletion=model_names,
    ),
]
SourceImage = Annotated[
    str | None,
    typer.Option(
        help="Image before the edits of which IMAGE_A and IMAGE_B are the results, for a judge "
        "that sees it too; of folders or globs, one image, or as many. Default: none.",
        metavar="IMAGE",
    ),
]
JsonAnyway = Annotated[
    bool,
    typer.Option("--json", help="Print one list of several pairs; one pair is JSON in any case."),
]


def prefer(
    options: ScorerOptions,
    image_a: Annotated[str, typer.Argument(help="First image, or a folder or glob of images.")],
    image_b: Annotated[
        str, typer.Argument(help="Second image; of a folder or glob, as many images.")
    ],
    text: Annotated[
        str, typer.Argument(help="Text that the images should show, or the instruction of edits.")
    ],
    model: JudgeName,
    source: SourceImage = None,
    as_json: JsonAnyway = False,
) -> None:
    """Print as JSON which of two images shows a text better, by a scorer of kind judge.

    The model answers twice, in both orders. `value` is 1 for IMAGE_A, 0 for IMAGE_B, and 0.5 for a
    tie or for two answers that contradict each other (then `consistent` is false). Of two folders
    or globs, the first image of one is compared with the first of the other and so on, by name; one
    line is printed for each pair, and with --json one list.
    """
    card = models.card(model)  # an unknown name is reported before torch is imported
    check_text(text, "TEXT")
    pairs = _pairs(image_a, image_b, source)
    if all(Path(names["image_a"]) == Path(names["image_b"]) for names in pairs):
        raise InputError(f"{image_a} and {image_b} are the same images: pass others to compare")
    if options.on_error != "skip":
        hint = "; --on-error skip leaves its pair out" if len(pairs) > 1 else ""
        for names in pairs:
            for role, name in names.items():
                check_image_file(name, "--source " if role == "source" else "", hint)
    with console.stoppable(options.store), Bars() as bars:
        scorer = options.load(card)
        compare_pairs = getattr(scorer, "prefer_all", None)
        if compare_pairs is None:
            raise UnsupportedError(
                f"{model!r} compares no pairs: use `t2v-eval score`, or a "
                "scorer that compares pairs (`t2v-eval list models --kind judge`)"
            )
        triples = [(*_images(names), text) for names in pairs]
        preferences = compare_pairs(triples, bars.add(model))
    rows = [
        _row(names, text, preference) for names, preference in zip(pairs, preferences, strict=True)
    ]
    if as_json and len(rows) > 1:
        console.print_json(rows)
    else:
        for row in rows:
            console.show(json.dumps(row, ensure_ascii=False))
    console.say_usage(model, scorer.usage.total if hasattr(scorer, "usage") else {})
    if all(row["value"] is None for row in rows):
        raise SystemExit(1)


def _pairs(image_a: str, image_b: str, source: str | None = None) -> list[dict[str, str]]:
    """Return what two arguments stand for, in pairs by position, with their sources.

    Raises:
        InputError: the arguments stand for different numbers of images.
    """
    first, second = expand_images([image_a]), expand_images([image_b])
    if len(first) != len(second):
        raise InputError(
            f"{image_a} stands for {len(first)} images and {image_b} for {len(second)}: pass two "
            "images, or two folders or globs of as many images"
        )
    columns = {"image_a": first, "image_b": second}
    if source is not None:
        sources = expand_images([source])
        if len(sources) not in (1, len(first)):
            raise InputError(
                f"--source {source} stands for {len(sources)} images and {image_a} for "
                f"{len(first)}: pass one image, or a folder or glob of as many images"
            )
        columns["source"] = sources * len(first) if len(sources) == 1 else sources
    return [dict(zip(columns, names, strict=True)) for names in zip(*columns.values(), strict=True)]


def _images(names: dict[str, str]) -> tuple[Any, Any]:
    """Return both images of a pair; where it has a source, both edits."""
    from t2v_eval.inputs.media import Edit

    pair = names["image_a"], names["image_b"]
    source = names.get("source")
    return pair if source is None else (Edit(source, pair[0]), Edit(source, pair[1]))


def _row(names: dict[str, str], text: str, preference: Preference) -> dict[str, Any]:
    """Return what is printed of a pair; an answer that is missing is null."""
    answers = {
        name: None if value != value else value for name, value in preference._asdict().items()
    }
    labels = {role: image_label(name) for role, name in names.items()}
    return {**labels, "text": text, **answers}
