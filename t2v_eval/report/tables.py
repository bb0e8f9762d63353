"""The tables of a report, which the terminal and Markdown render each in their own way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from t2v_eval.evaluation.comparison import (
    Difference,
    about_missing,
    by_benchmark,
    has_generators,
)
from t2v_eval.evaluation.run import Run
from t2v_eval.report.format import verdict
from t2v_eval.scoring.results import CellCounts
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.decisions import OUTCOMES, DecisionCounts
from t2v_eval.stats.permutation import PValue
from t2v_eval.stats.prediction_powered import PredictionPowered

DECISIONS = (
    "People decide by their mean ratings over the prompts, a scorer by its mean scores, each pair "
    "alone by a paired sign-flip test at 0.05. Same: the same difference; opposite: the other way; "
    "missed: people saw one, the scorer none; claimed: the scorer saw one, people none; neither: "
    "both saw none."
)
"""The remark below decisions on pairs of generators."""


PEOPLE = (
    "In units of the ratings, estimated from the ratings of some prompts and the scores of all "
    "(prediction-powered inference, PPI++), with 95 % intervals. They hold if the rated prompts "
    "are a random part of all. Worth: how many ratings without scores give an interval as short."
)
"""The remark below what people would say."""


class ScorerCell(NamedTuple):
    """The label of a scorer, and its number of failed scores.

    >>> ScorerCell("mine", failed=2).failed
    2
    """

    label: str
    failed: int


class IntervalCell(NamedTuple):
    """A value with its interval.

    Attributes:
        interval: the value and its limits.
        sign: "+" to show the sign of positive numbers too, as of differences.
        published: the published value, if there is one.

    >>> IntervalCell(Interval(0.5, 0.4, 0.6)).published is None
    True
    """

    interval: Interval
    sign: str = ""
    published: float | None = None


class PValueCell(NamedTuple):
    """A p-value, from 0 to 1; NaN is undefined.

    >>> PValueCell(0.04).p
    0.04
    """

    p: float


class VerdictCell(NamedTuple):
    """Which of two is better, or scores higher.

    >>> VerdictCell("no significant difference", significant=False).significant
    False
    """

    text: str
    significant: bool


class ChanceCell(NamedTuple):
    """A cell of the row of what guessing reaches.

    >>> ChanceCell("0.250").text
    '0.250'
    """

    text: str


class PublishedCell(NamedTuple):
    """The name by which a scorer is published, and its labels in this report, if it is there.

    >>> PublishedCell("HPSv3", ["hpsv3"]).text, PublishedCell("mine", ["mine"]).text
    ('HPSv3 (in this report: hpsv3)', 'mine (in this report)')
    """

    name: str
    labels: Sequence[str]

    @property
    def remark(self) -> str:
        """Return that the scorer is in this report, with labels other than the name."""
        labels = f": {', '.join(self.labels)}" if [*self.labels] != [self.name] else ""
        return f"in this report{labels}" if self.labels else ""

    @property
    def text(self) -> str:
        """Return the name with the remark."""
        return f"{self.name} ({self.remark})" if self.labels else self.name


Cell: TypeAlias = (
    str
    | ScorerCell
    | IntervalCell
    | PValueCell
    | VerdictCell
    | ChanceCell
    | PublishedCell
    | CellCounts
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title; the first column names the rows.

    Attributes:
        title: what it shows.
        columns: the heads of the columns.
        rows: a cell for each column.
        note: a sentence about all of it.

    >>> Table("metrics of scorers", ["scorer", "tau_b"], []).note
    ''
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What a report shows of one benchmark.

    Attributes:
        name: the name of the benchmark, with the part of it that was evaluated.
        scorers: the label and the run of each scorer.
        pairs: the label of both scorers and their difference.

    >>> list(sections([], [], []))
    []
    """

    name: str
    scorers: Sequence[tuple[str, Run]]
    pairs: Sequence[tuple[str, str, Difference]]

    @property
    def first(self) -> Run:
        """Return the first run, whose benchmark facts stand for those of all."""
        return self.scorers[0][1]

    @property
    def has_generators(self) -> bool:
        """Return whether images of generators are compared, each scorer on its own scale."""
        return has_generators(self.first)

    @property
    def generators(self) -> list[str]:
        """Return the names of the generators, or of what else is compared within the benchmark."""
        pairs = dict.fromkeys(name for pair in self.first.contrasts for name in pair)
        return list(pairs) or [facts.folder for facts in self.first.benchmark.folders]

    @property
    def items(self) -> str:
        """Return the number of items, and of how many if a part was evaluated."""
        count, total = len(self.first.items), self.first.benchmark.items_of_all
        return f"{count}{f' of {total}' if total > count else ''} items"

    @property
    def sources(self) -> dict[str, str]:
        """Return the source of the published figures of each metric."""
        return {
            metric: figure.source
            for _, run in self.scorers
            for metric, figure in run.benchmark.published.items()
            if figure.source
        }

    @property
    def meanings(self) -> dict[str, str]:
        """Return what each metric means, with its range."""
        return {name: text for name, text in self.first.benchmark.meanings.items() if text}

    @property
    def cautions(self) -> list[str]:
        """Return what a reader of the scores of each scorer should know, each once."""
        texts = (
            f"{label}: {caution}" for label, run in self.scorers for caution in run.scorer.cautions
        )
        return list(dict.fromkeys(texts))

    def metrics(self) -> Table:
        """Return the metrics of each scorer over all items."""
        names, chance = list(self.first.metrics), self.first.benchmark.chance
        rows: list[list[Cell]] = [
            [
                ScorerCell(label, run.counts.failed),
                *(_metric(run, name) for name in names),
                run.counts,
            ]
            for label, run in self.scorers
        ]
        if chance:
            values = [f"{chance[name]:.3f}" if name in chance else "" for name in names]
            rows.append([ChanceCell(text) for text in ("guessing", *values, "")])
        return Table(f"{self.items}, with 95 % intervals", ["scorer", *names, "scores"], rows)

    def published(self, limit: int | None = None) -> Iterator[Table]:
        """Yield the published figures of all scorers, from the highest of the first metric.

        Args:
            limit: the number of rows, besides those of scorers of this report; None for all.
        """
        headline, tables = self.first.benchmark.headline, self.first.benchmark.published_tables
        metrics = sorted(tables, key=lambda metric: metric != headline)
        values = {metric: tables[metric].values for metric in metrics}
        names = dict.fromkeys(name for of_metric in values.values() for name in of_metric)
        if not names:
            return
        labels = {
            name: [
                label
                for label, run in self.scorers
                if any(figure.name == name for figure in run.benchmark.published.values())
            ]
            for name in names
        }
        ranked = sorted(
            names,
            key=lambda name: [values[metric].get(name, -math.inf) for metric in metrics],
            reverse=True,
        )
        shown = [name for name in ranked if labels[name] or name in ranked[:limit]]
        left_out = f"; report.json has {len(ranked) - len(shown)} lower ones"
        yield Table(
            f"published figures of {len(ranked)} scorer{'s' * (len(ranked) != 1)}"
            f"{left_out * (len(shown) < len(ranked))}",
            ["published scorer", *metrics],
            [
                [
                    PublishedCell(name, labels[name]),
                    *(_published_value(values[metric], name) for metric in metrics),
                ]
                for name in shown
            ],
            _sources({metric: tables[metric].source for metric in metrics}),
        )

    def by_tag(self) -> Table:
        """Return the headline metric of each scorer by tag."""
        headline = self.first.benchmark.headline
        rows = [
            [
                f"{tag} ({count})",
                *(_optional(run.by_tag.get(tag, {}), headline) for _, run in self.scorers),
            ]
            for tag, count in self.first.benchmark.tags.items()
        ]
        columns = ["tag (items)", *(label for label, _ in self.scorers)]
        return Table(f"{headline} by tag", columns, rows)

    def differences(self) -> Table:
        """Return the differences on all items, with numbers of common scores if some lack any."""
        headline = self.first.benchmark.headline
        has_missing = any(pair.used < pair.cells for _, _, pair in self.pairs)
        rows: list[list[Cell]] = [
            [
                f"{first} - {second}",
                *(IntervalCell(interval, "+") for interval in pair.metrics.values()),
                *_tested(pair.tests[""][headline], pair.metrics[headline], first, second),
                *[f"{pair.used} of {pair.cells}"] * has_missing,
            ]
            for first, second, pair in self.pairs
        ]
        heads = ["first - second", *self.first.metrics, "p", f"on {headline}"]
        return Table(
            f"differences on the same items; p of {headline}, corrected for all pairs",
            [*heads, *["scores of both"] * has_missing],
            rows,
            about_missing([pair for _, _, pair in self.pairs], self.first.benchmark.items),
        )

    def differences_by_tag(self, limit: int) -> Table:
        """Return the differences by tag; of more than `limit` only the significant ones."""
        headline = self.first.benchmark.headline
        rows = [
            (tag, first, second, pair)
            for first, second, pair in self.pairs
            for tag, metrics in pair.by_tag.items()
            if headline in metrics
        ]
        title = f"differences of {headline} by tag; p corrected for all pairs and tags"
        if len(rows) > limit:
            significant = [row for row in rows if row[-1].significant(headline, row[0])]
            title += f"; {len(rows) - len(significant)} that are not significant are left out"
            rows = significant
        cells = [
            [
                tag,
                f"{first} - {second}",
                IntervalCell(pair.by_tag[tag][headline], "+"),
                *_tested(pair.tests[tag][headline], pair.by_tag[tag][headline], first, second),
            ]
            for tag, first, second, pair in rows
        ]
        return Table(title, ["tag", "first - second", headline, "p", "verdict"], cells)

    def decisions(self) -> Iterator[Table]:
        """Yield how the scorers decide on pairs of generators beside people: counts, then pairs."""
        decided = [(label, run) for label, run in self.scorers if run.decisions]
        if not decided:
            return
        counts = {label: DecisionCounts.of(run.decisions) for label, run in decided}
        yield Table(
            f"decisions on {max(c.pairs for c in counts.values())} pairs of generators",
            ["scorer", *OUTCOMES, "means in the other order"],
            [
                [label, *(str(getattr(c, name)) for name in OUTCOMES), str(c.reordered)]
                for label, c in counts.items()
            ],
            DECISIONS,
        )
        yield Table(
            "decisions by pair of generators",
            ["first - second", "people", "p", *counts],
            [
                [
                    f"{d.first} - {d.second}",
                    IntervalCell(Interval(d.people.difference, math.nan, math.nan), "+"),
                    PValueCell(d.people.p),
                    *(_outcome(run, d.first, d.second) for _, run in decided),
                ]
                for d in decided[0][1].decisions
            ],
        )

    def people(self) -> Iterator[Table]:
        """Yield what people would say of the generators, by the scores of each scorer."""
        with_people = [(label, run.people) for label, run in self.scorers if run.people is not None]
        means = [
            [
                name,
                label,
                IntervalCell(mean.interval),
                IntervalCell(mean.ratings_alone),
                *_counts_of(mean),
            ]
            for label, people in with_people
            for name, mean in people.means.items()
        ]
        differences = [
            [
                f"{d.first} - {d.second}",
                label,
                IntervalCell(d.estimate.interval, "+"),
                IntervalCell(d.estimate.ratings_alone, "+"),
                PValueCell(d.test.p_holm),
                *_counts_of(d.estimate),
            ]
            for label, people in with_people
            for d in people.differences
        ]
        heads = ["scores of", "by people", "by the ratings alone"]
        counts = ["rated", "scored", "worth"]
        if differences:
            title = "differences that people would see; p corrected for all pairs"
            columns = ["first - second", *heads, "p", *counts]
            yield Table(title, columns, differences, PEOPLE)
        if means:
            title = "mean ratings that people would give"
            yield Table(title, ["generator", *heads, *counts], means, "" if differences else PEOPLE)

    def contrasts(self) -> Iterator[Table]:
        """Yield what the benchmark compares within itself, by scorer, overall and by tag."""
        for label, run in self.scorers:
            for first, second in run.contrasts:
                name = f"{first} - {second}"
                yield Table(
                    f"{name} by {label}; p of the paired difference, by tag corrected for all tags",
                    ["items", first, second, name, "p", "verdict"],
                    [_contrast(run, tag, first, second) for tag in run.tests],
                )


def _counts_of(estimate: PredictionPowered) -> list[Cell]:
    """Return the counts behind an estimate, and how many ratings alone would be as precise."""
    worth = "" if estimate.worth is None else str(estimate.worth)
    return [str(estimate.rated), str(estimate.scored), worth]


def _outcome(run: Run, first: str, second: str) -> str:
    """Return the outcome of a pair of generators by a scorer; "" where it is not known."""
    matches = (d for d in run.decisions if (d.first, d.second) == (first, second))
    return next((f"{d.outcome}{', reordered' * d.reordered}" for d in matches), "")


def sections(
    runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]
) -> Iterator[Section]:
    """Yield a section for each benchmark of the runs.

    Args:
        runs: the runs of a report.
        labels: what to call the scorer of each run.
        differences: differences of comparable runs, by the indices of both.

    >>> list(sections([], [], []))
    []
    """
    for name, indices in by_benchmark(runs).items():
        pairs = [(labels[d.first], labels[d.second], d) for d in differences if d.first in indices]
        section = Section(name, [(labels[n], runs[n]) for n in indices], pairs)
        # Reports of earlier versions have differences of mean scores, which are on two scales.
        yield replace(section, pairs=[]) if section.has_generators else section


def _metric(run: Run, name: str) -> IntervalCell:
    published = run.benchmark.published.get(name)
    return IntervalCell(run.metrics[name], "", published.value if published else None)


def _published_value(values: Mapping[str, float], name: str) -> Cell:
    """Return a published value, which has no interval; "" where there is none."""
    return IntervalCell(Interval(values[name], math.nan, math.nan)) if name in values else ""


def _sources(sources: Mapping[str, str]) -> str:
    """Return a sentence with the sources of the metrics, or the one that all of them have."""
    first, *others = dict.fromkeys(sources.values())
    known = [f"{metric} from {source}" for metric, source in sources.items() if source]
    listed = "; ".join(known) if others else first
    return f"Not measured for this report.{f' Published: {listed}.' * bool(listed)}"


def _optional(metrics: Mapping[str, Interval], name: str) -> Cell:
    return IntervalCell(metrics[name]) if name in metrics else ""


def _contrast(run: Run, tag: str, first: str, second: str) -> list[Cell]:
    """Return a row: the means of both, their difference and its test, for a tag or all items."""
    name = f"{first} - {second}"
    metrics = run.by_tag[tag] if tag else run.metrics
    count = run.benchmark.tags[tag] if tag else len(run.items)
    return [
        f"{tag or 'all'} ({count})",
        IntervalCell(metrics[first]),
        IntervalCell(metrics[second]),
        IntervalCell(metrics[name], "+"),
        *_tested(run.tests[tag][name], metrics[name], first, second, "scores higher"),
    ]


def _tested(
    test: PValue, difference: Interval, first: str, second: str, says: str = "is better"
) -> list[Cell]:
    """Return the cells of p and of the verdict."""
    text = verdict(test, difference, first, second, says)
    return [PValueCell(test.p_holm), VerdictCell(text, test.significant)]
