"""t2v-eval: how well does an image match a text, and which scorer should you trust?

The public names are listed below. Each is imported on first use, so that ``import t2v_eval`` stays
fast.

>>> import t2v_eval
>>> set(t2v_eval.list_models(kind="vqa")) <= set(t2v_eval.list_models())
True
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


class _CheckoutFinder:
    """Find the sub-packages that lie beside this folder in a checkout; a wheel has them inside.

    Adding the checkout to `__path__` would expose its other folders too, such as tests, and this
    package as `t2v_eval.t2v_eval`, whose classes would differ from those of `t2v_eval`.
    """

    FOLDERS = ("t2v_eval.backends", "t2v_eval.benchmarks", "t2v_eval.templates")

    @classmethod
    def find_spec(cls, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in cls.FOLDERS:
            return None
        return PathFinder.find_spec(name, [str(Path(__file__).parents[1])], target)


if not (Path(__file__).parent / "backends").is_dir():
    sys.meta_path.insert(0, _CheckoutFinder)  # before an editable install of another checkout

if TYPE_CHECKING:
    from t2v_eval.api import list_benchmarks, list_models, list_templates, load, score
    from t2v_eval.errors import T2VError, T2VWarning
    from t2v_eval.evaluation.benchmark import Benchmark, Item
    from t2v_eval.evaluation.distances.distance import distance
    from t2v_eval.evaluation.ratings.battle_table import read_battles
    from t2v_eval.evaluation.ratings.rating import ratings_from_battles
    from t2v_eval.evaluation.run import evaluate
    from t2v_eval.evaluation.sensitivity import Sensitivity, template_sensitivity
    from t2v_eval.generators.generator import Generated, Generator
    from t2v_eval.generators.run import generate
    from t2v_eval.inputs.media import Edit, Video
    from t2v_eval.inputs.template import Template
    from t2v_eval.local.dual_encoder import EmbeddingScorer
    from t2v_eval.local.function import from_function
    from t2v_eval.local.pair_scorer import PairScorer
    from t2v_eval.remote.scorer import ApiScorer
    from t2v_eval.report.report import Report, compare
    from t2v_eval.scoring.generation import Explanation, TokenProbability
    from t2v_eval.scoring.scorer import Scorer
    from t2v_eval.stats.ratings.battles import Battle
    from t2v_eval.store import Store
    from t2v_eval.t2v_metrics import (
        CLIPScore,
        ITMScore,
        VQAScore,
        get_score_model,
        list_all_clipscore_models,
        list_all_itmscore_models,
        list_all_models,
        list_all_vqascore_models,
    )

_NAMES_BY_MODULE = {
    "api": "list_benchmarks list_models list_templates load score",
    "t2v_metrics": (
        "CLIPScore ITMScore VQAScore get_score_model list_all_clipscore_models "
        "list_all_itmscore_models list_all_models list_all_vqascore_models"
    ),
    "evaluation.benchmark": "Benchmark Item",
    "evaluation.ratings.battle_table": "read_battles",
    "evaluation.ratings.rating": "ratings_from_battles",
    "evaluation.distances.distance": "distance",
    "evaluation.run": "evaluate",
    "errors": "T2VError T2VWarning",
    "local.dual_encoder": "EmbeddingScorer",
    "local.function": "from_function",
    "local.pair_scorer": "PairScorer",
    "inputs.media": "Edit Video",
    "remote.scorer": "ApiScorer",
    "report.report": "Report compare",
    "scoring.scorer": "Scorer",
    "generators.generator": "Generated Generator",
    "generators.run": "generate",
    "evaluation.sensitivity": "Sensitivity template_sensitivity",
    "scoring.generation": "Explanation TokenProbability",
    "stats.ratings.battles": "Battle",
    "store": "Store",
    "inputs.template": "Template",
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}

__all__ = [
    "ApiScorer",
    "Battle",
    "Benchmark",
    "CLIPScore",
    "Edit",
    "EmbeddingScorer",
    "Explanation",
    "Generated",
    "Generator",
    "ITMScore",
    "Item",
    "PairScorer",
    "Report",
    "Scorer",
    "Sensitivity",
    "Store",
    "T2VError",
    "T2VWarning",
    "Template",
    "TokenProbability",
    "VQAScore",
    "Video",
    "compare",
    "distance",
    "evaluate",
    "from_function",
    "generate",
    "get_score_model",
    "list_all_clipscore_models",
    "list_all_itmscore_models",
    "list_all_models",
    "list_all_vqascore_models",
    "list_benchmarks",
    "list_models",
    "list_templates",
    "load",
    "ratings_from_battles",
    "read_battles",
    "score",
    "template_sensitivity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"t2v_eval.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 't2v_eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
