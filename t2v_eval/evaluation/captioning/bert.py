"""BERTScore of captions (Zhang et al. 2020), by the package bert-score."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.errors import CheckpointError, InputError, MissingPackageError, ScoringError
from t2v_eval.evaluation.captioning.bert_score_internals import put_blank_before_first_word
from t2v_eval.evaluation.captioning.measured import Measured


class BertModel:
    """The language model whose hidden states BERTScore compares.

    Args:
        model: a name of the Hugging Face hub, such as "roberta-large", or a folder.
        layer: the number of the hidden layer, from 1. Default: the one that bert-score chose for
            the model, or for the last part of the folder's name.
        device: where it runs; None for CUDA where it is there.

    Attributes:
        facts: the model, the layer and the versions, as bert-score writes them.

    Raises:
        MissingPackageError: bert-score is not installed.
        InputError: no layer is known for the model, or the model has no such layer.
        CheckpointError: the model cannot be loaded.

    >>> model = BertModel("roberta-large")  # doctest: +SKIP
    >>> float(model.measure(["a cat"], [["a cat"]])["BERTScore"].each[0])  # doctest: +SKIP
    1.0
    """

    facts: str

    def __init__(self, model: str, layer: int | None = None, device: str | None = None) -> None:
        try:
            package: Any = importlib.import_module("bert_score")
            layers = importlib.import_module("bert_score.utils").model2layers
        except ImportError as error:
            raise MissingPackageError(
                "BERTScore needs the package 'bert-score': pip install 't2v-eval[captions]'"
            ) from error
        layer = layer or layers.get(model) or layers.get(Path(model).name)
        if layer is None:
            raise InputError(
                f"bert-score knows no layer for {model!r}: name one, such as `bert_layer=17` for "
                "roberta-large"
            )
        try:
            self._scorer = package.BERTScorer(model_type=model, num_layers=layer, device=device)
            put_blank_before_first_word(self._scorer, model)
        except AssertionError as error:
            raise InputError(f"{model} has no `bert_layer={layer}`: {error}") from error
        except Exception as error:  # transformers may raise anything over a checkpoint
            raise CheckpointError(
                f"the model of BERTScore, {model}, cannot be loaded: {error}"
            ) from error
        self.facts = str(self._scorer.hash)

    def measure(
        self, candidates: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, Measured]:
        """Return the F1 of BERTScore, from -1 to 1, without idf and not rescaled.

        With several references it is that of the best; the value of a set is the mean. Captions are
        taken as they are written, since the model has its own tokenizer.

        Args:
            candidates: the captions to score.
            references: the human captions of each, one or more.

        Raises:
            ScoringError: a caption is blank, or the model fails or gives no finite value.
        """
        for caption in (*candidates, *(text for listed in references for text in listed)):
            if not caption.strip():
                raise ScoringError("BERTScore: a caption or reference is blank")
        try:
            scores = self._scorer.score([*candidates], [[*listed] for listed in references])[2]
        except Exception as error:  # the network or tokenizer may raise anything
            raise ScoringError(f"BERTScore: {type(error).__name__}: {error}") from error
        each = scores.double().cpu().numpy()
        if not np.isfinite(each).all():
            raise ScoringError("BERTScore: the model gave no finite value")
        return {"BERTScore": Measured.mean(each)}
