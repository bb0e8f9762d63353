"""Columns of a table as runs, so that a report shows how well they agree with human ratings.

Each column of scores is a run, and each row an item. Rows may name an image (column `image`, a path
from the table's folder), a text (`text`, `prompt` or `caption`) and an `id`, which the items of the
report show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.evaluation.agreement import Agreement, to_json
from t2v_eval.evaluation.benchmark import Item, Items, Scores, bootstrap_items
from t2v_eval.evaluation.comparison import Difference
from t2v_eval.evaluation.data_hash import DataHashes, items_sha256
from t2v_eval.evaluation.rating_tables.columns import cells, is_empty
from t2v_eval.evaluation.rating_tables.names import meaning
from t2v_eval.evaluation.rating_tables.observations import Observations
from t2v_eval.evaluation.rating_tables.statistic import paired_statistic_of, statistic_of
from t2v_eval.evaluation.rating_tables.table import ALL, RatedTable
from t2v_eval.evaluation.run import (
    BenchmarkFacts,
    Run,
    ScorerFacts,
    package_versions,
    with_decisions,
)
from t2v_eval.evaluation.selection import LeftOut
from t2v_eval.evaluation.stability.noise_floor import NoiseFloor
from t2v_eval.inputs.addresses import folder_of, path_or_address, within_folder
from t2v_eval.inputs.tables import Row
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.bootstrap import IntArray, Statistic, TogetherStatistic
from t2v_eval.stats.metrics import FloatArray
from t2v_eval.stats.resampling.draws import Copies
from t2v_eval.utils.arrays import CellArrays

NO_IMAGE = ""
"""What stands in the place of an image in a row that names none."""
TEXT_COLUMNS = ("text", "prompt", "caption")
HEADLINES = ("auroc", "acc23", "accuracy", "pair_accuracy")
OF_ONE_COLUMN = ("auroc_macro",)  # needs the scores of all classes, which no item has


def agreement_runs(table: RatedTable, result: Agreement, path: str | Path) -> list[Run]:
    """Return a run for each column of scores, with the metrics of `result`.

    Args:
        table: the table.
        result: what `evaluation.agreement.measure` returned for it.
        path: its path or address, which names it and which paths of images are relative to.

    >>> from t2v_eval.evaluation.agreement import measure
    >>> rows = [{"human": h, "a": a} for h, a in ((1, 0.1), (2, 0.4), (3, 0.3))]
    >>> table = RatedTable.read(rows, "human", ["a"])
    >>> (run,) = agreement_runs(table, measure(table), "judged.csv")
    >>> run.scorer.name, run.benchmark.name, round(run.metrics["tau_b"].value, 3)
    ('a', 'judged.csv', 0.333)
    """
    writer = _Writer(table, result, path_or_address("path", path))
    return [writer.run(column) for column in table.scores]


class _Writer:
    """Write the runs of a table, whose columns have items and names of metrics in common."""

    def __init__(self, table: RatedTable, result: Agreement, path: Path | str) -> None:
        self._table, self._result = table, result
        self._name = Path(path).name
        allowed = [table.names(column) for column in table.scores]
        self._names = [
            name
            for name in allowed[0]
            if name not in OF_ONE_COLUMN and all(name in others for others in allowed)
        ]
        self._items = Items(_items(table, folder_of(path)))
        self._row = {id(item): n for n, item in enumerate(self._items)}
        self._human = [np.array([[rating]]) for rating in table.human.tolist()]

    def run(self, column: str) -> Run:
        """Return the run of a column."""
        table, result, items = self._table, self._result, self._items
        resamples, seed = table.options.resamples, table.options.seed
        scores = CellArrays(table.scores[column])
        bootstrap = {}
        for tag in ("", *table.tags):
            chosen = items.tagged(tag)
            statistic = self._statistic(chosen, scores.take(items.where(tag)))
            bootstrap[tag] = bootstrap_items(statistic, chosen, resamples, seed)
        by_tag = {
            tag: {name: figures[name] for name in bootstrap[tag if tag != ALL else ""].value}
            for tag, figures in result.scores[column].items()
        }
        overall = by_tag.pop(ALL)
        used = result.counts[column][ALL].used
        run = Run(
            scorer=_scorer_facts(column, self._name),
            benchmark=self._benchmark_facts(list(overall), column),
            metrics=overall,
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
            human=self._human,
            bootstrap=bootstrap,
            contrasts=[],
            tests={},
            statistic_of=self._statistic,
            paired_statistic_of=self._statistic,
            data=DataHashes(items_sha256(items, self._human), None),
            noise_floor=NoiseFloor(reason="the scores are of a table"),
        )
        # Without groups or texts, rows of one prompt are not known to belong together.
        paired = table.group is not None or all(item.texts[0] for item in items)
        return with_decisions(run) if paired else run

    def _statistic(self, items: Sequence[Item], *sides: Scores) -> Statistic:
        """Return the metrics of resampled rows, of which units are drawn as a whole.

        Args:
            items: n rows.
            sides: the scores of one column or, for a paired test, of two.
        """
        table = self._table
        rows = np.array([self._row[id(item)] for item in items], np.int64)
        number: dict[str, int] = {}
        unit = np.array([number.setdefault(item.group, len(number)) for item in items], np.int64)
        observed = [
            table.observed(
                CellArrays.of(scores).cells,
                rows,
                None if table.group is None else unit,
            )
            for scores in sides
        ]
        averaging = table.options.averaging
        if table.group is None and len(sides) == 2:
            return paired_statistic_of(observed[0], observed[1], self._names, averaging)
        both = observed[0] if len(sides) == 1 else Observations.paired(*observed)
        compute = statistic_of(both, self._names, averaging)
        if table.group is None:
            return compute
        units = np.concatenate([unit + side * len(number) for side in range(len(sides))])
        if isinstance(compute, TogetherStatistic):
            return _TogetherOfRows(compute, units)
        return _of_rows(compute, units)

    def _benchmark_facts(self, names: Sequence[str], column: str) -> BenchmarkFacts:
        table = self._table
        counts = self._result.counts[column]
        return BenchmarkFacts(
            subset=[],
            items_of_all=len(self._items),
            left_out=LeftOut(),
            folders=[],
            remarks=remarks(self._result),
            name=self._name,
            items=len(self._items),
            summary="Agreement of columns of scores with human ratings",
            note="",
            headline=next(name for name in (*HEADLINES, *names) if name in names),
            chance={"auroc": 0.5} if "auroc" in names else {},
            meanings={name: meaning(name) for name in names},
            pooled=True,
            published={},
            tags={tag: count.rows for tag, count in counts.items() if tag != ALL},
            resamples=table.options.resamples,
            seed=table.options.seed,
        )


def _of_rows(compute: Statistic, units: IntArray) -> Statistic:
    """Return a statistic of units as one of their rows, which are drawn together."""
    first = np.zeros(len(units), bool)  # which stands for its unit
    first[np.unique(units, return_index=True)[1]] = True
    return lambda index: compute(units[index[first[index]]])


class _TogetherOfRows:
    """The same of a statistic that computes many resamples together."""

    def __init__(self, compute: TogetherStatistic, units: IntArray) -> None:
        self._compute, self._one = compute, _of_rows(compute, units)
        self._first = np.unique(units, return_index=True)[1]

    def __call__(self, index: IntArray) -> Mapping[str, float]:
        """Return the metrics of rows."""
        return self._one(index)

    def together(self, copies: Copies) -> Mapping[str, FloatArray]:
        """Return each metric of many resamples; see `TogetherStatistic`.

        Args:
            copies: shape (rows, resamples).
        """
        return self._compute.together(copies.take(self._first, axis=0))


def differences_to_json(
    columns: Sequence[str], differences: Sequence[Difference]
) -> list[dict[str, Any]]:
    """Return the differences of columns as plain numbers for JSON.

    Args:
        columns: the name of the column of each run.
        differences: differences of the runs, by their indices.

    >>> differences_to_json(["a"], [])
    []
    """
    return [
        {
            "first": columns[pair.first],
            "second": columns[pair.second],
            "rows": pair.cells,
            "used": pair.used,
            "metrics": {
                tag or ALL: {
                    name: {**to_json(interval), **pair.tests[tag][name]._asdict()}
                    for name, interval in metrics.items()
                }
                for tag, metrics in {"": pair.metrics, **pair.by_tag}.items()
            },
        }
        for pair in differences
    ]


def remarks(result: Agreement) -> list[str]:
    """Return what a reader of the metrics of all columns should know.

    >>> from t2v_eval.evaluation.agreement import agreement
    >>> result = agreement([{"human": 1, "a": 1}, {"human": 2, "a": ""}], "human", ["a"])
    >>> remarks(result)[1]
    'a: 1 of 2 rows lack a score or a rating and are left out.'
    """
    lines = [f"Intervals and tests resample each {result.unit}."]
    for column, by_tag in result.counts.items():
        missing = by_tag[ALL].rows - by_tag[ALL].used
        if missing:
            lines.append(
                f"{column}: {missing} of {by_tag[ALL].rows} rows lack a score or a rating and are "
                "left out."
            )
        for reason, names in reasons(result, column, ALL).items():
            lines.append(f"{column}: {', '.join(names)}: {reason}.")
    raters = result.raters.get(ALL)
    if raters is not None:
        lines.append(f"Raters: {raters.sentence()}.")
    return lines


def reasons(result: Agreement, column: str, tag: str) -> dict[str, list[str]]:
    """Return the metrics that are missing for each reason.

    >>> from t2v_eval.evaluation.agreement import agreement
    >>> result = agreement([{"human": 1, "a": 1}, {"human": 1, "a": 2}], "human", ["a"])
    >>> reasons(result, "a", "all")["all ratings are equal"][:2]
    ['pearson', 'spearman']
    """
    metrics: dict[str, list[str]] = {}
    for name, reason in result.reasons.get(column, {}).get(tag, {}).items():
        metrics.setdefault(reason, []).append(name)
    return metrics


def _items(table: RatedTable, folder: Path | str) -> list[Item]:
    groups = _cells(table, table.options.group)
    are_ratings = table.options.kind == "ratings"
    systems = _cells(table, table.options.system if are_ratings else None)
    names: dict[int, list[str]] = {}
    for tag, index in table.tags.items():
        for n in index.tolist():
            names.setdefault(n, []).append(tag)
    return [
        _item(row, n, folder, rating, groups[n], tuple(names.get(n, ())), systems[n])
        for n, (row, rating) in enumerate(zip(table.rows, table.human.tolist(), strict=True))
    ]


def _cells(table: RatedTable, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(table.rows)
    entries = cells(table.rows, column)
    return ["" if is_empty(value) else str(value).strip() for _, value in entries]


def _item(
    row: Row,
    n: int,
    folder: Path | str,
    rating: float,
    group: str,
    tags: tuple[str, ...],
    system: str,
) -> Item:
    image = row.get("image")
    named = isinstance(image, str) and bool(image.strip())
    text = next((row[key] for key in TEXT_COLUMNS if not is_empty(row.get(key))), "")
    return Item(
        images=[within_folder(folder, str(image)) if named else NO_IMAGE],
        texts=[str(text)],
        labels={"human": [rating]} | ({"generator": [system]} if system else {}),
        tags=tags,
        id=f"row {n + 1}" if is_empty(row.get("id")) else str(row["id"]),
        group=group,
    )


def _scorer_facts(column: str, table: str) -> ScorerFacts:
    return ScorerFacts(
        name=column,
        id=f"column {column!r} of {table}",
        kind="column",
        summary=f"the scores of column {column!r}",
        question="",
        answer="",
    )
