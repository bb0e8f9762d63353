"""Columns of a table as runs, so that a report shows how well they agree with human ratings.

Each column of scores is a run, and each row an item. Rows may name an image (column `image`, a path
from the table's folder), a text (`text`, `prompt` or `caption`) and an `id`, which the items of the
report show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.evaluation.agreement import (
    ALL,
    Agreement,
    is_empty,
    mean_ratings,
    metric_names,
    numbers,
    paired_unit_statistic,
    split_tags,
    unit_statistic,
)
from t2v_eval.evaluation.benchmark import Item, Scores, bootstrap_items, indices_with_tag
from t2v_eval.evaluation.data_hash import DataHashes, items_sha256
from t2v_eval.evaluation.noise_floor import NoiseFloor
from t2v_eval.evaluation.run import BenchmarkFacts, Run, ScorerFacts, package_versions
from t2v_eval.evaluation.selection import LeftOut
from t2v_eval.inputs.tables import Row
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.agreement_metrics import METRICS
from t2v_eval.stats.bootstrap import IntArray, Statistic

NO_IMAGE = ""
"""What stands in the place of an image in a row that names none."""
TEXT_COLUMNS = ("text", "prompt", "caption")


def agreement_runs(
    rows: Sequence[Row],
    result: Agreement,
    human: str | Sequence[str],
    *,
    table: str | Path,
    group: str | None = None,
    tags: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Run]:
    """Return a run for each column of scores, with the metrics of `result`.

    Args:
        rows: the rows of the table.
        result: what `agreement` returned for them.
        human: columns of ratings.
        table: its path, which names it and which paths of images are relative to.
        group: the column of groups.
        tags: the column of tags.
        resamples: the number of bootstrap resamples.
        seed: their random seed.

    >>> from t2v_eval.evaluation.agreement import agreement
    >>> rows = [{"human": h, "a": a} for h, a in ((1, 0.1), (2, 0.4), (3, 0.3))]
    >>> result = agreement(rows, "human", ["a"], resamples=10)
    >>> (run,) = agreement_runs(rows, result, "human", table="judged.csv", resamples=10)
    >>> run.scorer.name, run.benchmark.name, round(run.metrics["tau_b"].value, 3)
    ('a', 'judged.csv', 0.333)
    """
    columns = {column: numbers(rows, column) for column in result.scores}
    ratings = mean_ratings(rows, [human] if isinstance(human, str) else human)
    allowed = [metric_names(values, ratings) for values in columns.values()]
    names = [name for name in allowed[0] if all(name in others for others in allowed)]
    items = [
        _item(row, n, float(rating), Path(table).parent, group, tags)
        for n, (row, rating) in enumerate(zip(rows, ratings, strict=True), 1)
    ]

    def statistic_of(some: Sequence[Item], scores: Scores) -> Statistic:
        return _statistic(some, [scores], names, grouped=group is not None)

    def paired_statistic_of(some: Sequence[Item], first: Scores, second: Scores) -> Statistic:
        return _statistic(some, [first, second], names, grouped=group is not None)

    runs = []
    for column, values in columns.items():
        scores = [np.array([[value]]) for value in values.tolist()]
        bootstrap = {}
        for tag in ("", *(tag for tag in result.scores[column] if tag != ALL)):
            chosen = indices_with_tag(items, tag)
            statistic = statistic_of([items[n] for n in chosen], [scores[n] for n in chosen])
            bootstrap[tag] = bootstrap_items(statistic, [items[n] for n in chosen], resamples, seed)
        defined = list(bootstrap[""].value)
        by_tag = {
            tag if tag != ALL else "": {name: figures[name] for name in defined}
            for tag, figures in result.scores[column].items()
        }
        used = result.counts[column][ALL].used
        human_values = [np.array([[rating]]) for rating in ratings.tolist()]
        runs.append(
            Run(
                scorer=_scorer_facts(column, Path(table).name),
                benchmark=_benchmark_facts(
                    Path(table).name, items, defined, result, column, (resamples, seed)
                ),
                metrics=by_tag.pop(""),
                by_tag=by_tag,
                counts=CellCounts(cells=used, reused=used),
                errors={},
                environment=package_versions(),
                seconds=0.0,
                items=items,
                scores=scores,
                verdicts=[{}] * len(items),
                failures={},
                details={},
                rated_units=[[[0]]] * len(items),
                human=human_values,
                bootstrap=bootstrap,
                contrasts=[],
                tests={},
                statistic_of=statistic_of,
                paired_statistic_of=paired_statistic_of,
                data=DataHashes(items_sha256(items, human_values), None),
                noise_floor=NoiseFloor(reason="the scores are of a table"),
            )
        )
    return runs


def _item(
    row: Row, n: int, rating: float, folder: Path, group: str | None, tags: str | None
) -> Item:
    image = row.get("image")
    named = isinstance(image, str) and bool(image.strip())
    text = next((row[key] for key in TEXT_COLUMNS if not is_empty(row.get(key))), "")
    names = split_tags(_cell(row, tags)) if tags is not None else ()
    return Item(
        images=[_path(str(image), folder) if named else NO_IMAGE],
        texts=[str(text)],
        labels={"human": [rating]},
        tags=tuple(f"{ALL} (tag)" if name == ALL else name for name in names),
        id=f"row {n}" if is_empty(row.get("id")) else str(row["id"]),
        group="" if group is None else str(_cell(row, group)),
    )


def _cell(row: Row, column: str) -> Any:
    """Return the value of a column, or of a key of the objects in a column, as `a.b`."""
    outer, dot, inner = column.partition(".")
    if column in row or not dot:
        return row.get(column)
    nested = row.get(outer)
    return _cell(nested, inner) if isinstance(nested, Mapping) else None


def _path(image: str, folder: Path) -> str:
    if image.startswith(("http://", "https://")):
        return image
    return str(folder / Path(image).expanduser())


def _statistic(
    items: Sequence[Item], sides: Sequence[Scores], names: Sequence[str], grouped: bool
) -> Statistic:
    """Return the metrics of resampled rows, of which units are drawn as a whole.

    Args:
        items: n rows.
        sides: the scores of one column or, for a paired test, of two.
        names: the metrics.
        grouped: whether rows of one group are a unit.
    """
    columns = [np.array([float(score[0, 0]) for score in scores]) for scores in sides]
    ratings = np.array([item.labels["human"][0] for item in items], np.float64)
    missing = np.isnan([*columns, ratings]).any(axis=0)
    *values, rated = (np.where(missing, np.nan, column) for column in (*columns, ratings))
    build: Callable[[IntArray | None, Sequence[str]], Statistic]
    if len(values) == 1:
        build = partial(unit_statistic, values[0], rated)
    else:
        build = partial(paired_unit_statistic, values[0], values[1], rated)
    if not grouped:
        return build(None, names)
    number: dict[str, int] = {}
    unit = np.array([number.setdefault(item.group, len(number)) for item in items], np.int64)
    compute = build(unit, names)
    # Of the rows of a unit, which are drawn together, the first stands for the unit.
    first = np.tile(np.append(True, unit[1:] > np.maximum.accumulate(unit)[:-1]), len(sides))
    units = np.concatenate([unit + side * len(number) for side in range(len(sides))])
    return lambda index: compute(units[index[first[index]]])


def _scorer_facts(column: str, table: str) -> ScorerFacts:
    return ScorerFacts(
        name=column,
        id=f"column {column!r} of {table}",
        kind="column",
        summary=f"the scores of column {column!r}",
        question="",
        answer="",
    )


def _benchmark_facts(
    table: str,
    items: Sequence[Item],
    metrics: Sequence[str],
    result: Agreement,
    column: str,
    sampling: tuple[int, int],
) -> BenchmarkFacts:
    counts = result.counts[column]
    missing = len(items) - counts[ALL].used
    remarks = [f"Intervals and tests resample each {result.unit}."]
    if missing:
        remarks.append(
            f"{column}: {missing} of {len(items)} rows lack a score or a rating and are left out."
        )
    resamples, seed = sampling
    return BenchmarkFacts(
        subset=[],
        items_of_all=len(items),
        left_out=LeftOut(),
        folders=[],
        remarks=remarks,
        name=table,
        items=len(items),
        summary="Agreement of columns of scores with human ratings",
        note="",
        headline="auroc" if "auroc" in metrics else "acc23",
        chance={"auroc": 0.5} if "auroc" in metrics else {},
        meanings={name: _meaning(name) for name in metrics},
        pooled=True,
        published={},
        tags={tag: count.rows for tag, count in counts.items() if tag != ALL},
        resamples=resamples,
        seed=seed,
    )


def _meaning(name: str) -> str:
    """Return what a metric means; those within groups are means of others."""
    plain = name.removesuffix("_per_group")
    if plain == "accuracy":
        text = "the share of rows whose score equals the rating, 0 to 1"
    else:
        text = METRICS[plain].meaning
    return text if plain == name else f"the mean over groups of {plain} within each"
