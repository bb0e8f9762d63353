"""SPICE of captions (Anderson et al. 2016), by the Java program in pycocoevalcap."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from t2v_eval.errors import MissingPackageError, ScoringError
from t2v_eval.evaluation.captioning.java import TIMEOUT, find_java, package_folder, run_java
from t2v_eval.evaluation.captioning.measured import Measured
from t2v_eval.evaluation.captioning.tokens import TokenisedCaptions
from t2v_eval.utils.arrays import mean_of_known

PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def check_spice() -> None:
    """Check that all is there that SPICE needs.

    Raises:
        MissingPackageError: pycocoevalcap, Java, or the parser is missing, which pycocoevalcap
            would download when it is first used; this library never does.

    >>> check_spice()  # doctest: +SKIP
    """
    folder = package_folder() / "spice" / "lib"
    find_java()
    missing = [name for name in PARSER if not (folder / name).is_file()]
    if missing:
        raise MissingPackageError(
            f"its parser is not installed: copy {' and '.join(missing)} of Stanford CoreNLP 3.6.0 "
            f"to {folder}; `python -m pycocoevalcap.spice.get_stanford_models` downloads both"
        )


def spice(captions: TokenisedCaptions, timeout: float = TIMEOUT) -> dict[str, Measured]:
    """Return the F1 of SPICE, from 0 to 1; the value of a set is the mean.

    It is NaN for a caption without any object, attribute or relation, in whose references there is
    none either; the mean leaves such captions out.

    Args:
        captions: the words of the captions.
        timeout: seconds after which Java is stopped.

    Raises:
        MissingPackageError: as `check_spice`.
        ScoringError: Java fails, or writes something else.

    >>> spice(TokenisedCaptions(["a cat"], [["a cat"]]))["SPICE"].each  # doctest: +SKIP
    array([1.])
    """
    check_spice()
    rows = [
        {"image_id": index, "test": candidate, "refs": list(references)}
        for index, (candidate, references) in enumerate(
            zip(captions.candidates, captions.references, strict=True)
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "captions.json", Path(folder) / "scores.json"
        source.write_text(json.dumps(rows), encoding="utf-8")
        archive = str(package_folder() / "spice" / "spice-1.0.jar")
        arguments = ["-Xmx8G", "-jar", archive, str(source), "-out", str(target), "-silent"]
        run_java("SPICE", arguments, "", timeout)
        try:
            results = json.loads(target.read_text(encoding="utf-8"))
            by_index = {row["image_id"]: row["scores"]["All"]["f"] for row in results}
            each = np.array([float(by_index[index]) for index in range(len(rows))])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ScoringError(
                f"SPICE: Java wrote no score of each caption ({type(error).__name__}: {error})"
            ) from error
    return {"SPICE": Measured(each, lambda indices: mean_of_known(each[indices]))}
