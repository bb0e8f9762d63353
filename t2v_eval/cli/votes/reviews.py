"""``t2v-eval review`` and ``t2v-eval flags``: faults of random images, as people see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkRoot,
    Columns,
    OnMissing,
    Spreadsheet,
    Subset,
)
from t2v_eval.cli.votes.pages import (
    Folders,
    Instructions,
    OrderSeed,
    PageFolder,
    TaskPixels,
    images_of,
    print_page,
    read_instructions,
)

if TYPE_CHECKING:
    from rich.text import Text

    from t2v_eval.review.result import FlagAgreement, FlagRate, ReviewResult

LISTED = 8  # images about which raters do not agree


def review(
    images: Folders,
    out: PageFolder,
    prompts: Annotated[
        str | None,
        typer.Argument(
            help="Where the prompts are, which the page then shows: a file of your own, as "
            "prompts.csv or prompts.txt, or a set of prompts (see `list benchmarks`). Default: "
            "images are shown alone.",
            metavar="PROMPTS",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            help="How many images of each generator to show, chosen by --seed and whatever their "
            "scores; of the same prompts for all generators.",
            metavar="N",
        ),
    ] = 50,
    flag: Annotated[
        list[str] | None,
        typer.Option(
            help="What can be wrong with an image; repeat it for several, up to nine. Default: "
            "hand anatomy, text rendering, count, unsafe, other.",
            metavar="NAME",
        ),
    ] = None,
    image_pixels: TaskPixels = 768,
    instructions: Instructions = None,
    seed: OrderSeed = 0,
    root: BenchmarkRoot = None,
    column: Columns = None,
    subset: Subset = None,
    on_missing: OnMissing = "error",
    as_json: AsJson = False,
) -> None:
    """Write a page on which people flag what is wrong with images that were chosen at random.

    DIR/review.html is one file that works offline, also on phones: send it to two people, and
    `t2v-eval flags` reads the files that they save, with DIR/key.json. The page says nothing about
    generators; the key does, so keep it to yourself.
    """
    from t2v_eval.errors import InputError
    from t2v_eval.review.flags import FLAGS
    from t2v_eval.review.sampling import images_of_folders

    text = read_instructions(instructions)
    if prompts:
        by_prompt = images_of(prompts, images, root, column, subset, on_missing)
    elif root or column or subset:
        raise InputError("--root, --column and --subset are of prompts: pass PROMPTS, too")
    else:
        by_prompt = images_of_folders(images)
    from t2v_eval.review.page import write_review

    with console.waiting(f"writing {out}"):
        page = write_review(by_prompt, out, sample, seed, tuple(flag or FLAGS), text, image_pixels)
    print_page(page, "images", "flags reviews-*.json", as_json)


def flags(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files that people saved, one for each person; or the folder that holds them as "
            "reviews-*.json.",
            metavar="FILE...",
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            help="The key.json that was written beside the page. Default: the one in the folder "
            "of the files.",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also write a table with a row for each image and person: .csv, .jsonl or "
            ".parquet.",
            metavar="FILE",
        ),
    ] = None,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Print how many images people flagged on a page of `t2v-eval review`, and how well they agree.

    Shares have exact 95 % intervals (Clopper-Pearson): of 50 images without a flag, up to 7 % of
    all images may still have it. Agreement is Cohen's kappa and Krippendorff's alpha.
    """
    from t2v_eval.inputs.tables import check_spreadsheet, check_suffix, write_table
    from t2v_eval.review.reading import read_review
    from t2v_eval.utils.files import check_file

    path = check_file(out) if out else None
    if path:
        check_suffix(path)
        if spreadsheet:
            check_spreadsheet(path)
    result = read_review(files[0] if len(files) == 1 else files, key)
    if path:
        write_table(path, result.table(path.parent), spreadsheet)
    if as_json:
        console.print_json(result.to_json())
    else:
        _print(result)
    for rater, count in result.unseen.items():
        if count:
            console.say(f"{rater} gave no answer to {count} images, which count as not looked at",
                        "yellow")  # fmt: skip
    if path:
        console.note(f"{path} has a row for each image and person")


def _print(result: ReviewResult) -> None:
    from t2v_eval.review.result import ANY_RATER, EVERY_RATER

    raters = len(result.raters)
    console.show(
        f"{len(result.images)} images of {len(result.generators)} generators, reviewed by "
        f"{raters} {'person' if raters == 1 else 'people'}; at most {result.sample.limit} of each "
        f"generator, chosen by seed {result.sample.seed}\n"
    )
    by_place = {(rate.flag, rate.generator, rate.rule): rate for rate in result.rates}
    rules = [ANY_RATER, EVERY_RATER] if raters > 1 else [ANY_RATER]
    console.print_table(
        ["flag", "generator", *(rules if raters > 1 else ["flagged"])],
        [
            [flag, name, *(_share(by_place[flag, name, rule]) for rule in rules)]
            for flag in result.rows
            for name in result.generators
        ],
        "share of flagged images with exact 95 % intervals",
    )
    if result.agreement:
        console.print_table(
            ["flag", "images", "agree", "kappa", "alpha"],
            [
                [a.flag, str(a.n), str(a.equal), _number(a.kappa), _number(a.alpha)]
                for a in result.agreement
            ],
            "agreement of raters",
            numbers=True,
        )
        for agreement in result.agreement[:-1]:  # the last is of any flag
            _list_disputed(agreement)
    if result.differences:
        console.show("")
        console.print_table(
            ["flag", "difference", "prompts", "flagged alone", "by", "p"],
            [
                [
                    d.flag,
                    f"{d.first} - {d.second}",
                    str(d.n),
                    f"{d.only_first} : {d.only_second}",
                    f"{d.value:+.3f}",
                    _number(d.p),
                ]
                for d in result.differences
            ],
            "differences between generators on the same prompts, by any rater",
        )
        console.show("p: exact test of McNemar, not corrected for the number of flags.")


def _share(rate: FlagRate) -> Text:
    from t2v_eval.stats.bootstrap import Interval

    text = console.interval_text(Interval(rate.value, rate.low, rate.high))
    return text.append(f"  {rate.count} of {rate.n}")


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _list_disputed(agreement: FlagAgreement) -> None:
    if not agreement.disputed:
        return
    names = ", ".join(agreement.disputed[:LISTED])
    more = len(agreement.disputed) - LISTED
    console.show(f"{agreement.flag}, not agreed: {names}" + (f" and {more} more" * (more > 0)))
