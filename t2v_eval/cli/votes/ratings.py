"""``t2v-eval ratings``: a table of the ratings that people saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import AsJson, Spreadsheet
from t2v_eval.cli.votes.answers import MinAttention, read_people


def ratings(
    files: Annotated[
        list[Path],
        typer.Argument(help="Files that people saved, one for each person.", metavar="FILE..."),
    ],
    key: Annotated[
        list[Path],
        typer.Option(
            help="The key.json that was written beside the page; repeat it for several pages.",
            metavar="FILE",
        ),
    ],
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
    from t2v_eval.inputs.tables import check_spreadsheet, check_suffix, write_table
    from t2v_eval.utils.files import check_file
    from t2v_eval.votes.reading import ratings_of

    path = check_file(out)
    check_suffix(path)
    if spreadsheet:
        check_spreadsheet(path)
    people, warnings = read_people(files, key, "rate", min_attention)
    rows = ratings_of(people, path.parent)
    write_table(path, rows, spreadsheet)
    raters = [name for name in rows[0] if name.startswith("rater_")]
    count = sum(row[rater] is not None for row in rows for rater in raters)
    if as_json:
        facts = {"images": len(rows), "ratings": count, "raters": raters, "warnings": warnings}
        console.print_json({"table": str(path.resolve()), **facts})
    else:
        console.show(f"{count} ratings of {len(rows)} images are in {path}")
    for warning in warnings:
        console.say(warning, "yellow")
