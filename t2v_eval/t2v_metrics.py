"""The functions of t2v_metrics, so that ``import t2v_eval as t2v_metrics`` runs its scripts.

Names, arguments and defaults are those of t2v_metrics; `t2v_eval.api` has the interface of this
library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2v_eval.api import load
from t2v_eval.errors import UnknownNameError
from t2v_eval.registry import models

if TYPE_CHECKING:
    from t2v_eval.scoring.scorer import Scorer

KINDS_BY_FUNCTION = {
    "VQAScore": ("vqa",),
    "CLIPScore": ("clip", "preference"),
    "ITMScore": ("itm",),
}


def list_all_vqascore_models() -> list[str]:
    """Return the names that `VQAScore` accepts.

    >>> set(list_all_vqascore_models()) <= set(list_all_models())
    True
    """
    return _model_names("VQAScore")


def list_all_clipscore_models() -> list[str]:
    """Return the names that `CLIPScore` accepts.

    >>> set(list_all_clipscore_models()) <= set(list_all_models())
    True
    """
    return _model_names("CLIPScore")


def list_all_itmscore_models() -> list[str]:
    """Return the names that `ITMScore` accepts.

    >>> set(list_all_itmscore_models()) <= set(list_all_models())
    True
    """
    return _model_names("ITMScore")


def list_all_models() -> list[str]:
    """Return the names that `get_score_model` accepts.

    >>> list_all_models() == models.names()
    True
    """
    return models.names()


def VQAScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """Load a VQAScore scorer.

    Args:
        model: a name of `list_all_vqascore_models()`; by default the one marked as default.
        options: as for `t2v_eval.load`.

    Raises:
        UnknownNameError: no such model, or one of another kind.

    >>> VQAScore("tiny-clip-flant5", device="cpu").name
    'tiny-clip-flant5'
    """
    return _load_kind("VQAScore", model, options)


def CLIPScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """Load a CLIPScore or preference scorer.

    Args:
        model: a name of `list_all_clipscore_models()`; by default the one marked as default.
        options: as for `t2v_eval.load`.

    Raises:
        UnknownNameError: no such model, or one of another kind.

    >>> from PIL import Image
    >>> score = CLIPScore("tiny-clip", device="cpu")
    >>> score(images=[Image.new("RGB", (48, 48))], texts=["a black square"]).shape
    torch.Size([1, 1])
    """
    return _load_kind("CLIPScore", model, options)


def ITMScore(model: str | None = None, **options: Any) -> Scorer:  # noqa: N802
    """Load an image-text-matching scorer.

    Args:
        model: a name of `list_all_itmscore_models()`; by default the one marked as default.
        options: as for `t2v_eval.load`.

    Raises:
        UnknownNameError: no such model, or one of another kind.

    >>> try:
    ...     ITMScore("tiny-clip")
    ... except UnknownNameError as error:
    ...     print(str(error).partition(".")[0])
    there is no ITMScore model called 'tiny-clip'
    """
    return _load_kind("ITMScore", model, options)


def get_score_model(model: str | None = None, **options: Any) -> Scorer:
    """Load a scorer of any kind, by default the default VQAScore scorer.

    Args:
        model: a name of `list_all_models()`.
        options: as for `t2v_eval.load`.

    Raises:
        UnknownNameError: no such model.

    >>> get_score_model("tiny-clip", device="cpu").name
    'tiny-clip'
    """
    return load(model or models.default("vqa"), **options)


def _model_names(function: str) -> list[str]:
    return [name for kind in KINDS_BY_FUNCTION[function] for name in models.names(kind=kind)]


def _load_kind(function: str, name: str | None, options: dict[str, Any]) -> Scorer:
    name = name or models.default(KINDS_BY_FUNCTION[function][0])
    kind = models.card(name).kind
    if kind not in KINDS_BY_FUNCTION[function]:
        raise UnknownNameError.nearest(
            f"{function} model",
            name,
            _model_names(function),
            f"It is of kind {kind!r}; t2v_eval.load({name!r}) loads any kind.",
        )
    return load(name, **options)
