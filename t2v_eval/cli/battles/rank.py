"""``t2v-eval rank``: ratings, win rates and ranks of models from battles between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import AsJson, Resamples, Seed, parse_columns
from t2v_eval.cli.votes.answers import MinAttention, read_people
from t2v_eval.errors import InputError, TableError

if TYPE_CHECKING:
    from rich.text import Text

    from t2v_eval.evaluation.ratings.battle_table import BattleTable
    from t2v_eval.evaluation.ratings.results import BattleRatings, RatingOptions
    from t2v_eval.stats.bootstrap import Interval

BattleFiles = Annotated[
    list[Path],
    typer.Argument(
        help="Tables with the columns model_a, model_b and winner (model_a, model_b, tie or tie "
        "(bothbad)), and optionally prompt and judge: .csv, .tsv, .jsonl, .json, .parquet; folders "
        "of reports, whose scores are compared; or, with --key, files that people saved on a page "
        "of `vote`.",
        metavar="FILE...",
    ),
]
VoteKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        help="The key.json that was written beside the page of `vote`; repeat it for several "
        "pages. People of one name on several pages count as one judge. Default: the files are "
        "tables.",
        metavar="FILE",
    ),
]
BattleColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="The column that holds a field, for example prompt=question_id; repeat it for "
        "several. Default: columns of the fields' names.",
        metavar="FIELD=COLUMN",
    ),
]
Anchor = Annotated[
    str | None,
    typer.Option(
        help="A model and the points that it has, for example sdxl=1000. Default: the mean of all "
        "models has 1000.",
        metavar="MODEL=POINTS",
    ),
]
Prior = Annotated[
    Literal["normal"] | None,
    typer.Option(
        help="Prior of the ratings, for battles in which a model only won or only lost, which "
        "have no finite ratings. normal: log odds of mean 0 and standard deviation 1 (174 "
        "points). Default: no prior."
    ),
]
TieModel = Annotated[
    Literal["half", "davidson"],
    typer.Option(
        help="What a tie is: half a win of each model (half), or an outcome whose probability "
        "has a parameter of its own, as in Davidson 1970 and Newman 2023 (davidson)."
    ),
]
GroupOf = Annotated[
    Literal["prompt", "judge", "battle"] | None,
    typer.Option(
        help="What is resampled as a whole. Default: prompts where they repeat, else judges where "
        "ten or more do, else each battle."
    ),
]
EloStep = Annotated[
    float, typer.Option("--k", help="Largest change of Elo in a battle, in points, above 0.")
]
RatingFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder to write to: a page with charts, win rates of pairs and judges "
        "(ratings.html), and the JSON (ratings.json). Default: nothing is written.",
        metavar="DIR",
    ),
]


def rank(
    ctx: typer.Context,
    battles: BattleFiles,
    column: BattleColumns = None,
    key: VoteKeys = None,
    min_attention: MinAttention = 0,
    anchor: Anchor = None,
    prior: Prior = None,
    ties: TieModel = "half",
    group: GroupOf = None,
    k: EloStep = 4.0,
    out: RatingFolder = None,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Rate models by battles, in which one of two models won or both tied.

    Prints Bradley-Terry ratings, Elo, win rates and ranks with 95 % intervals, how often the first
    side won, and how consistent judges are. Battles come from `judge`, from the scores of a report,
    from people's votes, or from any table with these columns.
    """
    from t2v_eval.evaluation.ratings.results import RatingOptions
    from t2v_eval.utils.files import check_folder

    options = RatingOptions(
        anchor=None if anchor is None else parse_anchor(anchor),
        prior=prior,
        ties=ties,
        group=group,
        k=k,
        resamples=resamples,
        seed=seed,
    )
    if out is not None:
        check_folder(out)
    with console.waiting("reading the battles"):
        if key and column:
            raise InputError("--column is of tables, and files of a page have none: leave it out")
        _check_files(battles, key, min_attention)
        table = _read_votes(battles, key, min_attention) if key else _read(battles, column)
    with console.waiting("rating the models"):
        ratings = _rate(battles, table, options)
    _write(ratings, out, console.arguments(ctx), as_json)


def _write(ratings: BattleRatings, out: Path | None, command: Sequence[str], as_json: bool) -> None:
    """Write the page, and print the ratings, also where the page cannot be written."""
    page = None
    try:
        if out is not None:
            from t2v_eval.report.ratings.page import write_ratings

            with console.waiting(f"writing the page to {out}"):
                page = write_ratings(ratings, out, command)
    finally:
        if as_json:
            console.print_json(ratings.to_json())
        else:
            _print(ratings)
        for warning in ratings.warnings:
            console.say(f"warning: {warning}", "yellow")
    if page is not None:
        console.say(f"Ratings: {page.resolve()}")


def parse_anchor(anchor: str) -> tuple[str, float]:
    """Return the model and the points of --anchor.

    Raises:
        InputError: it is not of the form MODEL=POINTS.

    >>> parse_anchor("a=b=1000")
    ('a=b', 1000.0)
    """
    name, _, points = anchor.rpartition("=")
    try:
        if name:
            return name.strip(), float(points)
    except ValueError:
        pass
    raise InputError(f"--anchor {anchor!r}: write MODEL=POINTS, for example sdxl=1000")


def _check_files(files: Sequence[Path], keys: Sequence[Path] | None, min_attention: float) -> None:
    places = [file.expanduser().resolve() for file in files]
    for file, place in zip(files, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{file} is passed twice, and its battles would count twice")
    if min_attention and not keys:
        raise InputError("--min-attention is of people's answers: pass the --key of their page")


def _read(files: Sequence[Path], column: list[str] | None) -> BattleTable:
    from t2v_eval.evaluation.ratings.battle_table import BattleTable, read_battles
    from t2v_eval.report.ratings.battles import battles_of_report

    columns = {}
    for field, names in parse_columns(column).items():
        if len(names) > 1:
            raise InputError(f"--column {field}: name one column, not {' and '.join(names)}")
        columns[field] = names[0]
    tables = [
        battles_of_report(file) if file.is_dir() else read_battles(_table(file), columns)
        for file in files
    ]
    warnings = dict.fromkeys(warning for table in tables for warning in table.warnings)
    return BattleTable([battle for table in tables for battle in table.battles], [*warnings])


def _table(file: Path) -> Path:
    from t2v_eval.votes.saved import is_saved_answers

    if is_saved_answers(file):
        raise InputError(f"{file} was saved on a page of `t2v-eval vote`: pass its `key=...`")
    return file


def _read_votes(files: Sequence[Path], keys: Sequence[Path], min_attention: float) -> BattleTable:
    from t2v_eval.evaluation.ratings.battle_table import BattleTable
    from t2v_eval.votes.reading import battles_of

    people, warnings = read_people(files, keys, "vote", min_attention)
    return BattleTable(battles_of(people), warnings)


def _rate(files: Sequence[Path], table: BattleTable, options: RatingOptions) -> BattleRatings:
    from t2v_eval.evaluation.ratings.rating import rate_battles

    try:
        ratings = rate_battles(table.battles, options)
    except InputError as error:
        raise TableError(f"{', '.join(map(str, files))}: {error}") from error
    return replace(ratings, warnings=[*table.warnings, *ratings.warnings])


def _print(ratings: BattleRatings) -> None:
    """Print a table of models, one of judges where there are several, and the position rate."""
    rows = [
        [
            name,
            _whole(rating.rank),
            _whole(rating.bradley_terry),
            _whole(rating.elo),
            console.interval_text(rating.win_rate),
            f"{rating.battles:,}",
        ]
        for name, rating in ratings.models.items()
    ]
    columns = ["model", "rank", "Bradley-Terry", "Elo", "win rate", "battles"]
    console.print_table(columns, rows, ratings.title, numbers=True)
    if len(ratings.judges) > 1:
        rows = [
            [
                name,
                f"{judge.battles:,}",
                *map(console.interval_text, (judge.agreement, judge.self_consistency)),
                console.interval_text(judge.position),
            ]
            for name, judge in list(ratings.judges.items())[: console.MAX_ROWS]
        ]
        columns = ["judge", "battles", "agrees with others", "with itself", "first side won"]
        first = f"the first {len(rows)} " if len(rows) < len(ratings.judges) else ""
        title = f"{first}judges, those with most battles first"
        console.print_table(columns, rows, title, numbers=True)
    for line in ratings.notes:
        console.show(line)


def _whole(interval: Interval) -> Text:
    """Return points or ranks and their limits without decimals."""
    return console.interval_text(interval, digits=0)
