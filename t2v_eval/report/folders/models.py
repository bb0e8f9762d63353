"""The figures of a report by what they evaluate: a generator, or a scorer on rated items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from t2v_eval.stats.bootstrap import Interval

MEAN_SCORE = "mean score"
"""What the figure of a generator is, by a scorer."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a model on a benchmark.

    Attributes:
        run: the run of ``report.json`` that it is of.
        metric: its name; `MEAN_SCORE` of a generator.
        interval: its value and limits.
        headline: whether scorers are ranked by it.

    >>> Figure({}, "auroc", Interval(0.9, 0.8, 1.0), headline=True).metric
    'auroc'
    """

    run: Mapping[str, Any]
    metric: str
    interval: Interval
    headline: bool

    @property
    def benchmark(self) -> str:
        """Return the name of the benchmark, with the part that was evaluated."""
        benchmark = self.run["benchmark"]
        subset = ", ".join(benchmark["subset"])
        return f"{benchmark['name']} (part: {subset})" if subset else str(benchmark["name"])


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A model and its figures on one benchmark.

    Attributes:
        name: the folder of a generator, or the name of a scorer.
        benchmark: the name of the benchmark.
        figures: of a generator one by each scorer, of a scorer one for each metric.
        recipe: how a generator made its images, where that is known.

    >>> EvaluatedModel("mine", "drawn").figures
    []
    """

    name: str
    benchmark: str
    figures: list[Figure] = field(default_factory=list)
    recipe: Mapping[str, Any] = field(default_factory=dict)


def evaluated_models(content: Mapping[str, Any]) -> list[EvaluatedModel]:
    """Return the models of a report, with their figures by benchmark.

    Args:
        content: what `read_report` returned.

    >>> evaluated_models({"runs": []})
    []
    """
    models: dict[tuple[str, str, str], EvaluatedModel] = {}
    for run in content["runs"]:
        names = [str(folder["folder"]) for folder in run["benchmark"]["folders"]]
        scorer = str(run["scorer"]["name"])
        for figure, name in _figures(run, names, scorer):
            # Runs of one scorer with other questions are other models.
            key = figure.benchmark, name, "" if names else str(run["scorer"]["id"])
            recipe = (run.get("recipe") or {}).get(name, {})
            model = EvaluatedModel(name, figure.benchmark, recipe=recipe)
            models.setdefault(key, model).figures.append(figure)
    return list(models.values())


def _figures(run: Mapping[str, Any], names: list[str], scorer: str) -> Iterator[tuple[Figure, str]]:
    """Yield each figure of a run with the model that it is of."""
    metrics, headline = run["metrics"], run["benchmark"]["headline"]
    if not names:
        for metric, figure in metrics.items():
            yield Figure(run, metric, _interval(figure), metric == headline), scorer
    for name in names:
        metric = headline if len(names) == 1 else name
        yield Figure(run, MEAN_SCORE, _interval(metrics[metric]), headline=True), name


def _interval(figure: Mapping[str, Any]) -> Interval:
    numbers = (figure[key] for key in Interval._fields)
    return Interval(*(float("nan") if number is None else float(number) for number in numbers))
