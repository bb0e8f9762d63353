"""One static page of ratings from battles: table, chart, win rates of pairs, judges."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from t2v_eval.evaluation.ratings.results import BattleRatings
from t2v_eval.evaluation.run import package_versions
from t2v_eval.report.chart import forest
from t2v_eval.report.templates import environment
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.utils.files import check_folder, write_text
from t2v_eval.utils.printable import printable

MAX_JUDGES = 200  # rows of the table of judges
MAX_PAIRED = 60  # models in the table of win rates of pairs


def write_ratings(
    ratings: BattleRatings, folder: str | Path, command: Sequence[str] | None = None
) -> Path:
    """Write ``ratings.json`` and the page ``ratings.html`` to a folder.

    Args:
        ratings: what `ratings_from_battles` returned.
        folder: the folder, which is created if needed.
        command: the arguments of the command line, without secrets.

    Returns:
        The page.

    Raises:
        OutputError: the folder cannot be written.

    >>> import tempfile
    >>> from t2v_eval import ratings_from_battles
    >>> ratings = ratings_from_battles([("a", "b", "tie")], resamples=5)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     write_ratings(ratings, out).name
    'ratings.html'
    """
    path = check_folder(folder)
    content = json.dumps(ratings.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path / "ratings.json", content + "\n")
    page = path / "ratings.html"
    write_text(page, render_ratings(ratings, command))
    return page


def render_ratings(ratings: BattleRatings, command: Sequence[str] | None = None) -> str:
    """Return the page; it loads nothing and runs no script, and names are escaped.

    Args:
        ratings: what `ratings_from_battles` returned.
        command: the arguments of the command line, without secrets.

    >>> from t2v_eval import ratings_from_battles
    >>> ratings = ratings_from_battles([("a", "<b>", "tie")], resamples=5)
    >>> "&lt;b&gt;" in render_ratings(ratings)
    True
    """
    judges = list(ratings.judges.items())
    return (
        environment()
        .get_template("ratings/ratings.html")
        .render(
            ratings=ratings,
            claim=claim(ratings),
            created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            version=package_versions().get("t2v-eval", ""),
            command=command,
            chart=Markup(_chart(ratings)),
            pairs=_pairs(ratings) if len(ratings.models) <= MAX_PAIRED else [],
            judges=judges[:MAX_JUDGES],
            judges_left_out=len(judges[MAX_JUDGES:]),
        )
    )


def claim(ratings: BattleRatings) -> str:
    """Return which model is the best, as far as the battles tell.

    >>> from t2v_eval import ratings_from_battles
    >>> rows = [("a", "b", "model_a")] * 90 + [("a", "b", "model_b")] * 10
    >>> claim(ratings_from_battles(rows, resamples=50))
    'a is the best of 2 models by these battles.'
    """
    best, figures = next(iter(ratings.models.items()))
    equals = [name for name, other in ratings.models.items() if other.rank.low == 1]
    if len(equals) == 1:
        return f"{best} is the best of {len(ratings.models)} models by these battles."
    if math.isnan(figures.rank.low):
        return f"{best} has the highest rating; too few battles say whether that is chance."
    others = [name for name in equals if name != best]
    which = ", ".join(others[:3]) + f" and {len(others) - 3} more" * (len(others) > 3)
    return f"{best} has the highest rating; the battles do not rule out that {which} is as good."


def _chart(ratings: BattleRatings) -> str:
    """Draw Bradley-Terry, Elo and win rates of all models with their intervals."""
    names = list(ratings.models)
    panels: dict[str, list[list[Interval]]] = {
        "Bradley-Terry": [[rating.bradley_terry for rating in ratings.models.values()]],
        "Elo": [[rating.elo for rating in ratings.models.values()]],
        "win rate": [[rating.win_rate for rating in ratings.models.values()]],
    }
    return forest([_short(name) for name in names], panels, {"win rate": 0.5})


def _short(name: str, limit: int = 34) -> str:
    name = " ".join(printable(name).split())
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _pairs(ratings: BattleRatings) -> list[Mapping[str, Any]]:
    """Return for each model its win rate against each other and the number of battles."""
    rows = zip(ratings.models, ratings.win_rates.tolist(), ratings.met.tolist(), strict=True)
    return [
        {"name": name, "cells": list(zip(rates, map(int, met), strict=True))}
        for name, rates, met in rows
    ]
