"""Battles from the scores of a report: the image with the higher score wins."""

from __future__ import annotations

from pathlib import Path

from t2v_eval.errors import InputError
from t2v_eval.evaluation.ratings.battle_table import BattleTable
from t2v_eval.evaluation.ratings.judging import compare_scores, pairs_of
from t2v_eval.report.report import Report


def battles_of_report(folder: str | Path) -> BattleTable:
    """Return the battles of the generators of a report, with each scorer as a judge.

    Args:
        folder: the folder of a report on sets of prompts with the images of two or more generators.

    Raises:
        InputError: it is no folder of a report, has no scores, or no two generators.

    >>> battles_of_report("no-such-report")
    Traceback (most recent call last):
    t2v_eval.errors.InputError: no-such-report: no such folder or report.json
    """
    comparisons = []
    for run in Report.load(folder).runs:
        names = [facts.folder for facts in run.benchmark.folders]
        if len(names) > 1:
            pairs = pairs_of(run.items, names)
            comparisons += compare_scores(pairs, run.scores, run.failures, run.scorer.name)
    battles = [comparison.battle for comparison in comparisons if not comparison.error]
    if not battles:
        raise InputError(
            f"{folder} has no scores of two generators for the same prompts: pass the folder of a "
            "report on a set of prompts, with --images for each generator"
        )
    failed = len(comparisons) - len(battles)
    of_all = f"{failed} of {len(comparisons)} comparisons lack a score and are left out"
    return BattleTable(battles, [of_all] * (failed > 0))
