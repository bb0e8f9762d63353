"""Reports as evaluation results of the Hugging Face Hub: YAML files in ``.eval_results/``.

A file holds the results of one model on one benchmark; it goes into ``.eval_results/`` of the
model's repository. See https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t2v_eval.errors import InputError
from t2v_eval.registry import benchmarks
from t2v_eval.report.folders.every_eval_ever import path_part
from t2v_eval.report.folders.models import EvaluatedModel, evaluated_models
from t2v_eval.report.format import CONSOLE


def to_hub(content: Mapping[str, Any], dataset: str = "", task: str = "default") -> dict[str, str]:
    """Return a YAML file of the headline for each model and benchmark of a report, by its path.

    Args:
        content: what `read_report` returned.
        dataset: the id of the benchmark's data set on the hub; by default that of its card.
        task: the id of the task in the ``eval.yaml`` of the data set.

    Raises:
        InputError: no data set is known, or the report has several benchmarks for one data set.

    >>> to_hub({"runs": []})
    {}
    """
    models = evaluated_models(content)
    names = list(dict.fromkeys(model.benchmark for model in models))
    if dataset and len(names) > 1:
        raise InputError(
            f"`dataset={dataset!r}` is one data set, but the report has the benchmarks "
            f"{', '.join(names)}: evaluate one of them alone"
        )
    files: dict[str, str] = {}
    for model in models:
        text = _yaml(model, dataset or _dataset_of(model), task, content.get("created"))
        base = f"{path_part(model.name)}/.eval_results/{path_part(model.benchmark)}"
        number = sum(path.startswith(base) for path in files)
        files[f"{base}{f'-{number + 1}' if number else ''}.yaml"] = text
    return files


def _dataset_of(model: EvaluatedModel) -> str:
    name = str(model.figures[0].run["benchmark"]["name"])
    card = benchmarks.cards.get(name)
    if card is None or not card.hub:
        raise InputError(
            f"no data set of the hub is known for {name}: name one with `dataset='org/name'`"
        )
    return str(card.hub)


def _yaml(model: EvaluatedModel, dataset: str, task: str, created: object) -> str:
    """Return the entries of a model's headline, by each scorer."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = []
    for figure in model.figures:
        if not figure.headline or figure.interval.value != figure.interval.value:
            continue
        scorer, counts = figure.run["scorer"], figure.run["benchmark"]["items"]
        entries.append(
            EvalResultEntry(
                dataset_id=dataset,
                task_id=task,
                value=figure.interval.value,
                date=created if isinstance(created, str) and created else None,
                notes=f"{figure.metric} by {scorer['name']} over {counts} items, 95 % interval "
                f"{CONSOLE.interval(figure.interval)}; t2v-eval",
            )
        )
    text: str = yaml.safe_dump(
        eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True
    )
    return text
