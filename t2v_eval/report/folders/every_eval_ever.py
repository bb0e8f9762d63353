"""Reports in the result schema of Every Eval Ever, https://github.com/evaleval/every_eval_ever.

A file holds the figures of one model on one benchmark. Its path is that of the data store of Every
Eval Ever: data/BENCHMARK/DEVELOPER/MODEL/UUID.json.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from t2v_eval import __version__
from t2v_eval.report.folders.models import MEAN_SCORE, EvaluatedModel, Figure, evaluated_models

SCHEMA_VERSION = "0.3.0"
"""The version of the schema that files follow."""


def to_every_eval_ever(
    content: Mapping[str, Any], model_id: str = "", created: datetime | None = None
) -> dict[str, str]:
    """Return a JSON file for each model and benchmark of a report, by its path.

    Args:
        content: what `read_report` returned.
        model_id: the id of the model, as "org/name"; by default the pipeline of a generator's
            recipe, or the name of its folder or of the scorer.
        created: when the report was made, where it does not say so.

    >>> to_every_eval_ever({"runs": []})
    {}
    """
    when = _created(content, created)
    files: dict[str, str] = {}
    for model in evaluated_models(content):
        name = model_id or str(model.recipe.get("pipeline") or model.name)
        record = _record(model, name, when)
        if not record["evaluation_results"]:
            continue
        developer, _, short = name.rpartition("/")
        parts = (model.benchmark, developer or "unknown", short)
        digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()
        identifier = uuid.UUID(bytes=digest[:16], version=4)
        path = f"data/{'/'.join(map(path_part, parts))}/{identifier}.json"
        files[path] = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return files


def path_part(name: str) -> str:
    """Return a name as a part of a path: letters, digits, ".", "_" and "-".

    >>> path_part("a cat/../b"), path_part("..")
    ('a-cat-..-b', 'unnamed')
    """
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip(".-")[:100] or "unnamed"


def _created(content: Mapping[str, Any], created: datetime | None) -> datetime:
    try:
        return datetime.fromisoformat(str(content.get("created")))
    except ValueError:
        return created or datetime.fromtimestamp(0).astimezone()


def _record(model: EvaluatedModel, name: str, when: datetime) -> dict[str, Any]:
    timestamp = str(int(when.timestamp()))
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{model.benchmark}/{name}/{timestamp}",
        "evaluation_timestamp": when.isoformat(),
        "retrieved_timestamp": timestamp,
        "source_metadata": {
            "source_name": "t2v-eval",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "t2v-eval", "version": __version__},
        "model_info": {
            "name": model.name,
            "id": name,
            **({"developer": name.rpartition("/")[0]} if "/" in name else {}),
            "additional_details": {
                "deployment_type": "unknown",
                "model_availability": "unknown",
                **{f"recipe.{key}": _text(value) for key, value in model.recipe.items()},
            },
        },
        "evaluation_results": list(_results(model)),
    }


def _results(model: EvaluatedModel) -> Iterator[dict[str, Any]]:
    """Yield the figures that have a value."""
    for figure in model.figures:
        value, low, high = figure.interval
        if value != value:
            continue
        benchmark = figure.run["benchmark"]
        uncertainty: dict[str, Any] = {"num_samples": int(benchmark["items"])}
        if low == low and high == high:
            uncertainty["confidence_interval"] = {
                "lower": low,
                "upper": high,
                "confidence_level": 0.95,
                "method": "bootstrap over items, or Wilson for shares of single items",
            }
            uncertainty["num_bootstrap_samples"] = int(benchmark["resamples"])
        yield {
            "evaluation_name": figure.benchmark,
            "source_data": _source(figure),
            "metric_config": _metric(figure),
            "score_details": {"score": value, "uncertainty": uncertainty},
        }


def _source(figure: Figure) -> dict[str, Any]:
    benchmark, data = figure.run["benchmark"], figure.run.get("data") or {}
    details = {key: str(value) for key, value in data.items() if value}
    return {
        "dataset_name": str(benchmark["name"]),
        "source_type": "other",
        "additional_details": {"items": str(benchmark["items"]), **details},
    }


def _metric(figure: Figure) -> dict[str, Any]:
    scorer, benchmark = figure.run["scorer"], figure.run["benchmark"]
    config: dict[str, Any] = {
        "metric_name": figure.metric,
        "metric_id": f"t2v_eval.{figure.metric}",
        "lower_is_better": False,
        "additional_details": {
            "scorer": str(scorer["name"]),
            "scorer_id": str(scorer["id"]),
            "question": str(scorer["question"]),
            "answer": str(scorer["answer"]),
        },
    }
    if figure.metric == MEAN_SCORE:
        config["metric_name"] = f"{MEAN_SCORE} by {scorer['name']}"
        config["metric_id"] = f"t2v_eval.mean_score.{path_part(str(scorer['name']))}"
    meaning = benchmark["meanings"].get(figure.metric) or benchmark["summary"]
    return config | ({"evaluation_description": str(meaning)} if meaning else {})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
