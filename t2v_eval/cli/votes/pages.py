"""``t2v-eval vote`` and ``t2v-eval rate``: a page on which people judge images of generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkRoot,
    Columns,
    OnMissing,
    Subset,
    parse_columns,
    raise_or_skip,
)

if TYPE_CHECKING:
    from t2v_eval.votes.page import Page
    from t2v_eval.votes.tasks import PromptImages

Prompts = Annotated[
    str,
    typer.Argument(
        help="Where the prompts are: a file of your own, as prompts.csv or prompts.txt, or a set "
        "of prompts (see `list benchmarks`).",
        metavar="PROMPTS",
    ),
]
Folders = Annotated[
    list[Path],
    typer.Option(
        "--images",
        help="Folder of the images that a generator made of the prompts; repeat it for several.",
        metavar="DIR",
    ),
]
PageFolder = Annotated[
    Path, typer.Option(help="Folder to write the page and its key to.", metavar="DIR")
]
Attention = Annotated[
    float,
    typer.Option(
        help="How many attention checks to add for each pair or image, 0 to 0.5; at least one, if "
        "above 0. They show an image made unrecognisable.",
        metavar="SHARE",
    ),
]
TaskPixels = Annotated[
    int, typer.Option(help="Longer side of the images in the page, in pixels.", min=1, max=4096)
]
Instructions = Annotated[
    Path | None,
    typer.Option(
        help="Text file that people read first; empty lines part paragraphs. Default: to judge how "
        "well images show the text.",
        metavar="FILE",
    ),
]
OrderSeed = Annotated[
    int, typer.Option(help="Random seed of the choice, the order and the sides, 0 or more.")
]


def vote(
    prompts: Prompts,
    images: Folders,
    out: PageFolder,
    pairs: Annotated[
        int | None,
        typer.Option(
            help="Show at most this many pairs, chosen at random by --seed, of all pairs of "
            "generators alike. Default: all.",
            metavar="N",
        ),
    ] = None,
    attention: Attention = 0.05,
    image_pixels: TaskPixels = 768,
    instructions: Instructions = None,
    seed: OrderSeed = 0,
    root: BenchmarkRoot = None,
    column: Columns = None,
    subset: Subset = None,
    on_missing: OnMissing = "error",
    as_json: AsJson = False,
) -> None:
    """Write a page on which people choose between two images of a prompt.

    DIR/vote.html is one file that works offline, also on phones: send it to people, and `t2v-eval
    rank` reads the files that they save, with DIR/key.json. The page says nothing about generators;
    the key does, so keep it to yourself.
    """
    from t2v_eval.votes.tasks import plan_pairs

    text = read_instructions(instructions)
    by_prompt = images_of(prompts, images, root, column, subset, on_missing)
    tasks = plan_pairs(by_prompt, pairs, attention, seed)
    from t2v_eval.votes.page import write_page

    with console.waiting(f"writing {out}"):
        page = write_page(tasks, out, text, image_pixels)
    print_page(page, "pairs", "rank votes-*.json", as_json)
    if page.unequal:
        console.say(
            f"in {page.unequal} of {page.tasks - page.attention} pairs the two images differ in "
            "shape, by which people may recognise a generator: crop the images alike",
            "yellow",
        )


def rate(
    prompts: Prompts,
    images: Folders,
    out: PageFolder,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Show at most this many images, chosen at random by --seed, of all generators "
            "alike. Default: all.",
            metavar="N",
        ),
    ] = None,
    attention: Attention = 0.05,
    image_pixels: TaskPixels = 768,
    instructions: Instructions = None,
    seed: OrderSeed = 0,
    root: BenchmarkRoot = None,
    column: Columns = None,
    subset: Subset = None,
    on_missing: OnMissing = "error",
    as_json: AsJson = False,
) -> None:
    """Write a page on which people rate images from 1 to 5: how much of the prompt they show.

    DIR/rate.html is one file that works offline, also on phones: send it to people, and `t2v-eval
    ratings` makes a table of the files that they save, with DIR/key.json. The page says nothing
    about generators; the key does, so keep it to yourself.
    """
    from t2v_eval.votes.tasks import plan_ratings

    text = read_instructions(instructions)
    by_prompt = images_of(prompts, images, root, column, subset, on_missing)
    tasks = plan_ratings(by_prompt, limit, attention, seed)
    from t2v_eval.votes.page import write_page

    with console.waiting(f"writing {out}"):
        page = write_page(tasks, out, text, image_pixels)
    print_page(page, "images", "ratings ratings-*.json", as_json)


def read_instructions(file: Path | None) -> str:
    """Return the text of a file, "" without one.

    Raises:
        InputError: it holds no text.
    """
    from t2v_eval.errors import InputError
    from t2v_eval.utils.text_file import read_text

    if file is None:
        return ""
    text = read_text(file)
    if not text.strip():
        raise InputError(f"{file} holds no text: write what people should do")
    return text


def images_of(
    prompts: str,
    folders: Sequence[Path],
    root: str | None,
    column: list[str] | None,
    subset: list[str] | None,
    on_missing: OnMissing,
) -> list[PromptImages]:
    """Return the images of each prompt of a set, as the options of a command choose them."""
    from t2v_eval.evaluation.options import BenchmarkOptions
    from t2v_eval.registry import benchmarks
    from t2v_eval.votes.tasks import images_of_prompts

    options = BenchmarkOptions(root=root, images=folders, columns=parse_columns(column))
    benchmark = options.open(benchmarks.card(prompts))
    return images_of_prompts(benchmark.selecting(subset or None, raise_or_skip(on_missing)))


def print_page(page: Page, what: str, reader: str, as_json: bool) -> None:
    """Say what a page asks, and which command reads what people save.

    Args:
        page: the page.
        what: what its tasks are called.
        reader: the command that reads files of answers.
        as_json: whether to print JSON.
    """
    judged = page.tasks - page.attention
    if as_json:
        paths = {"page": str(page.path.resolve()), "key": str(page.key.resolve())}
        counts = {what: judged, "attention": page.attention, "bytes": page.size}
        console.print_json({**paths, "id": page.id, **counts, "unequal": page.unequal})
    else:
        checks = f" and {page.attention} attention check{'s' * (page.attention != 1)}"
        megabytes = page.size / 2**20
        size = f"{megabytes:.0f} MB" if megabytes >= 1 else "less than 1 MB"
        console.show(f"{judged} {what}{checks if page.attention else ''}: {page.path} ({size})")
    console.note(
        f"Send people the page alone. What they save is read by\nt2v-eval {reader} --key {page.key}"
    )
