"""``t2v-eval ratings``: a table of the ratings that people saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import AsJson, Spreadsheet

if TYPE_CHECKING:
    from t2v_eval.votes.key import Key, Kind
    from t2v_eval.votes.reading import Answers

KeyFile = Annotated[
    Path,
    typer.Option(help="The key.json that was written beside the page.", metavar="FILE"),
]
MinAttention = Annotated[
    float,
    typer.Option(
        help="Leave out people who passed a smaller share of their attention checks, 0 to 1. "
        "Default: nobody.",
        metavar="SHARE",
    ),
]


def ratings(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files that people saved, one for each person.", metavar="FILE..."),
    ],
    key: KeyFile,
    out: Annotated[
        Path, typer.Option(help="Table to write: .csv, .jsonl or .parquet.", metavar="FILE")
    ] = Path("ratings.csv"),
    min_attention: MinAttention = 0,
    spreadsheet: Spreadsheet = False,
    as_json: AsJson = False,
) -> None:
    """Make a table of the ratings that people saved on a page of `t2v-eval rate`.

    A row is an image, with the columns image, text, prompt, generator and, for each person,
    rater_NAME. `score --pairs` adds the scores of a scorer, and `agree --human rater_NAME` compares
    both; `eval --benchmark` takes the table as it is, with --column human=rater_NAME.
    """
    from t2v_eval.errors import InputError
    from t2v_eval.inputs.tables import check_spreadsheet, check_suffix, write_table
    from t2v_eval.utils.files import check_file
    from t2v_eval.votes.reading import ratings_of

    path = check_file(out)
    check_suffix(path)
    if spreadsheet:
        check_spreadsheet(path)
    page, people = read_people(files, key, "rate", min_attention)
    rows = ratings_of(people, page, path.parent)
    if not rows:
        raise InputError("only attention checks were rated: ask people to go on")
    write_table(path, rows, spreadsheet)
    raters = [f"rater_{person.person}" for person in people]
    count = sum(row[rater] is not None for row in rows for rater in raters)
    if as_json:
        console.print_json(
            {"table": str(path.resolve()), "images": len(rows), "ratings": count, "raters": raters}
        )
    else:
        console.show(f"{count} ratings of {len(rows)} images are in {path}")


def read_people(
    files: list[Path], key: Path, kind: Kind, min_attention: float
) -> tuple[Key, list[Answers]]:
    """Read a key and the answers of people, and say who has passed which attention checks.

    Args:
        files: what people saved.
        key: the key of their page.
        kind: what the command can use.
        min_attention: the share of attention checks that people must have passed.

    Returns:
        The key, and the people who are not left out.
    """
    from t2v_eval.votes.key import read_key
    from t2v_eval.votes.reading import attentive, read_answers

    page = read_key(key, kind)
    people = read_answers(files, page)
    left = attentive(people, min_attention)
    for person in people:
        if person.passed < person.attention:
            consequence = "" if person in left else "; left out"
            console.say(
                f"{person.person} passed {person.passed} of {person.attention} attention checks"
                f"{consequence}",
                "yellow",
            )
    return page, left
