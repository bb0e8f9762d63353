"""METEOR 1.5 of captions (Denkowski and Lavie 2014), with the alignments of its Java program."""

from __future__ import annotations

import numpy as np

from t2v_eval.errors import ScoringError
from t2v_eval.evaluation.captioning.java import TIMEOUT, package_folder, run_java
from t2v_eval.evaluation.captioning.measured import Measured
from t2v_eval.evaluation.captioning.tokens import TokenisedCaptions
from t2v_eval.utils.arrays import FloatArray

# The parameters for English: table 1 of the paper and METEOR's rank task.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # of exact, stem, synonym and paraphrase matches
_COUNTS = 23  # numbers that the program prints for a caption


def meteor(captions: TokenisedCaptions, timeout: float = TIMEOUT) -> dict[str, Measured]:
    """Return METEOR, from 0 to 1.

    The Java program aligns each caption with its best reference and prints counts of matched
    words. The value of a caption is computed from its counts, that of a set from their sums, as the
    program does when it is asked for a final score.

    Args:
        captions: the words of the captions.
        timeout: seconds after which Java is stopped.

    Raises:
        MissingPackageError: pycocoevalcap or Java is not installed.
        ScoringError: Java fails, or prints something else.

    >>> captions = TokenisedCaptions(["a cat"], [["a cat", "the dog"]])
    >>> meteor(captions)["METEOR"].each  # doctest: +SKIP
    array([1.])
    """
    folder = package_folder() / "meteor"
    # Left to itself, the program does not find this table in a folder whose name has a blank.
    paraphrases = str(folder / "data" / "paraphrase-en.gz")
    program = ["-Xmx2G", "-jar", str(folder / "meteor-1.5.jar"), "-", "-"]
    arguments = [*program, "-stdio", "-l", "en", "-norm", "-a", paraphrases]
    lines = [
        " ||| ".join(text.replace("|||", "") for text in ("SCORE ", *references, candidate))
        for candidate, references in zip(captions.candidates, captions.references, strict=True)
    ]
    printed = run_java("METEOR", arguments, "".join(f"{line}\n" for line in lines), timeout)
    try:
        counts = np.array([[float(number) for number in line.split()] for line in printed])
    except ValueError:
        counts = np.empty(0)
    if counts.shape != (len(lines), _COUNTS):
        raise ScoringError(f"METEOR: Java printed {printed[0][:80]!r} in place of counts of words")
    # A caption equal to its reference is not one more fragment of a set.
    whole = (counts[:, 20] == 1) & (counts[:, 21:] == counts[:, :2]).all(axis=1)
    counts[whole, 20] = 0
    each = np.array([meteor_of_counts(row) for row in counts])
    return {"METEOR": Measured(each, lambda indices: meteor_of_counts(counts[indices].sum(0)))}


def meteor_of_counts(counts: FloatArray) -> float:
    """Return METEOR of the counts of a caption, or of their sums.

    Denkowski and Lavie 2014, equations 1 to 4, with function words weighted by 1 - delta.

    Args:
        counts: shape (23,): words of caption and reference; function words of both; for exact,
            stem, synonym and paraphrase matches the content words of both and the function words of
            both; chunks (0 where caption and reference are equal); matched words of both.

    >>> same = np.array([2, 2, 1, 1, 1, 1, 1, 1] + [0] * 12 + [0, 2, 2])  # "a cat", twice
    >>> meteor_of_counts(same)
    1.0
    """
    matches = counts[4:20].reshape(4, 2, 2)  # kind of match, content or function, side
    weighted = _WEIGHTS @ (_DELTA * matches[:, 0] + (1 - _DELTA) * matches[:, 1])
    if not weighted.all():
        return 0.0
    words, functions = counts[:2], counts[2:4]
    precision, recall = weighted / (_DELTA * (words - functions) + (1 - _DELTA) * functions)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    fragmentation = counts[20] / counts[21:].mean()
    return float((1 - _GAMMA * fragmentation**_BETA) * mean)
