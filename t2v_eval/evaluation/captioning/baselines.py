"""BLEU, METEOR, ROUGE-L, CIDEr, SPICE and BERTScore of captions, beside CLIPScore.

These compare a caption with human captions of the same image, and do not see the image. The command
of the CLIPScore repository prints the same ones, but BERTScore, from the same package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from t2v_eval.errors import InputError, MissingPackageError, ScoringError
from t2v_eval.evaluation.captioning.bert import BertModel
from t2v_eval.evaluation.captioning.java import TIMEOUT, find_java, package_folder
from t2v_eval.evaluation.captioning.measured import Measured
from t2v_eval.evaluation.captioning.meteor import meteor
from t2v_eval.evaluation.captioning.ngrams import bleu, cider, rouge_l
from t2v_eval.evaluation.captioning.spice import spice
from t2v_eval.evaluation.captioning.tokens import TokenisedCaptions, Tokenizer
from t2v_eval.stats.bootstrap import Interval, bootstrap_interval
from t2v_eval.utils.arrays import FloatArray

NO_BERT = "no model is named: pass one, such as `bert_model='roberta-large'`"


@dataclass(frozen=True, slots=True)
class Baselines:
    """Metrics of captions against their references.

    Attributes:
        each: the value of each caption by metric, in the order of the captions.
        corpus: the value of all captions together by metric, with its 95 % interval over captions.
        missing: why a metric was not computed, by metric.
        bert: the model of BERTScore, its layer and versions; "" without it.

    >>> measured = Baselines({"CIDEr": np.array([0.5])}, {}, {"SPICE": "no parser"})
    >>> measured.of_caption(0)
    {'CIDEr': 0.5}
    """

    each: Mapping[str, FloatArray]
    corpus: Mapping[str, Interval]
    missing: Mapping[str, str] = field(default_factory=dict)
    bert: str = ""

    def of_caption(self, index: int) -> dict[str, float | None]:
        """Return each metric of a caption; None where it has no value."""
        values = {name: float(each[index]) for name, each in self.each.items()}
        return {name: None if np.isnan(value) else value for name, value in values.items()}


def check_baselines(tokenizer: Tokenizer = "ptb") -> None:
    """Check that packages and programs are there before anything is scored.

    Args:
        tokenizer: as in `compute_baselines`.

    Raises:
        MissingPackageError: pycocoevalcap is not installed, or there is no Java for the tokenizer.

    >>> check_baselines("none")  # doctest: +SKIP
    """
    package_folder()
    if tokenizer == "ptb":
        try:
            find_java()
        except MissingPackageError as error:
            raise MissingPackageError(
                f"the PTB tokenizer, whose words BLEU, METEOR, ROUGE-L, CIDEr and SPICE count, is "
                f"a Java program, and {error}. With `tokenizer='none'`, BLEU, ROUGE-L and CIDEr "
                "need no Java, but their values are not comparable with published ones"
            ) from error


def compute_baselines(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: Tokenizer = "ptb",
    bert: BertModel | None = None,
    timeout: float = TIMEOUT,
) -> Baselines:
    """Compute the metrics of captions against their references.

    A metric that fails is in `missing` with its reason, and the others are computed. Intervals
    resample captions: BLEU and METEOR are computed anew from the counts of each resample, CIDEr
    keeps the weights of all references, and the others are means.

    Args:
        candidates: the captions to score, one for each image.
        references: the human captions of each, one or more.
        tokenizer: "ptb" for that of published values, which needs Java; "none" to split at blanks.
        bert: the model of BERTScore; None leaves it out.
        timeout: seconds after which each Java program is stopped.

    Raises:
        InputError: there is no caption, a caption has no reference, or the numbers differ.
        MissingPackageError: pycocoevalcap is not installed, or there is no Java for the tokenizer.
        ScoringError: the tokenizer fails.

    >>> measured = compute_baselines(["a red cat"], [["a red dog"]])  # doctest: +SKIP
    >>> round(measured.corpus["ROUGE-L"].value, 3)  # doctest: +SKIP
    0.667
    """
    if timeout <= 0:
        raise InputError(f"`timeout={timeout}`: use a number of seconds above 0")
    check_baselines(tokenizer)
    captions = TokenisedCaptions.of(candidates, references, tokenizer, timeout)
    metrics: dict[str, Callable[[], Mapping[str, Measured]]] = {
        "BLEU": lambda: bleu(captions),
        "METEOR": lambda: meteor(captions, timeout),
        "ROUGE-L": lambda: rouge_l(captions),
        "CIDEr": lambda: cider(captions),
        "SPICE": lambda: spice(captions, timeout),
    }
    missing = {}
    if bert is None:
        missing["BERTScore"] = NO_BERT
    else:
        metrics["BERTScore"] = lambda: bert.measure(candidates, references)
    measured: dict[str, Measured] = {}
    for name, compute in metrics.items():
        try:
            measured |= compute()
        except (MissingPackageError, ScoringError) as error:
            missing[name] = str(error).removeprefix(f"{name}: ")
    intervals = bootstrap_interval(
        lambda indices: {name: metric.corpus(indices) for name, metric in measured.items()},
        len(candidates),
    )
    each = {name: metric.each for name, metric in measured.items()}
    return Baselines(each, intervals, missing, bert.facts if bert else "")
