"""Is the generator judged by what it was trained or guided with?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from t2v_eval.protocol.probes import names
from t2v_eval.protocol.probes.inputs import (
    IntervalChart,
    ProbeFigure,
    ProbeInputs,
    ProbeResult,
    ProbeScorer,
    not_measured,
)
from t2v_eval.stats.bootstrap import Interval

NAME = names.CIRCULARITY
QUESTION = "Is the generator judged by what it was trained or guided with?"
SOURCE = "the cards and ids of the scorers, and the families of the plan"


def circularity(inputs: ProbeInputs) -> ProbeResult:
    """Compare the families of the plan with the networks of each scorer.

    A family is looked for in the scorer's name, its checkpoint, the networks that its card names
    and the place of its class, without regard for case and punctuation.

    Args:
        inputs: scorers and families.
    """
    if not inputs.families:
        return not_measured(
            NAME,
            QUESTION,
            "the plan names no family of scorers that the generator was trained or guided with; "
            'write them under probes, as families = ["clip"]',
        )
    if not inputs.scorers:
        return not_measured(NAME, QUESTION, "the plan names no scorer")
    matches = {s.name: shared_families(s, inputs.families) for s in inputs.scorers}
    circular = {name: families for name, families in matches.items() if families}
    share = len(circular) / len(matches)
    named = "; ".join(f"{name} ({', '.join(families)})" for name, families in circular.items())
    families = ", ".join(inputs.families)
    model = inputs.images.model.name
    if circular:
        statement = (
            f"{len(circular)} of {len(matches)} scorers are of a family that {model} "
            f"was trained or guided with ({families}): {named}. What a generator was trained for, "
            "it may have learnt to please: let scorers of other families, or people, decide."
        )
    else:
        statement = (
            f"None of {len(matches)} scorers is of a family that {model} was trained "
            f"or guided with ({families})."
        )
    figures = [
        ProbeFigure(name, Interval(*3 * [float(bool(shared))]), 1, SOURCE)
        for name, shared in matches.items()
    ]
    return ProbeResult(
        NAME,
        QUESTION,
        statement,
        share,
        share,
        share,
        unit="share of scorers",
        n=len(matches),
        warning=bool(circular),
        chart=IntervalChart("of a family (1) or not", figures),
        figures=figures,
        source=SOURCE,
    )


def shared_families(scorer: ProbeScorer, families: Sequence[str]) -> list[str]:
    """Return the families that a scorer belongs to.

    Args:
        scorer: a scorer and the names by which it is told.
        families: names of scorers, of networks or of checkpoints, such as "clip" or "PickScore".

    >>> import numpy as np
    >>> scores = np.eye(1), np.eye(1)
    >>> mine = ProbeScorer("mine", "", True, False, ["CLIP ViT-L/14"], scores)
    >>> shared_families(mine, ["clip", "BLIP-2"])
    ['clip']
    """
    facts = [_letters(fact) for fact in scorer.facts]
    letters = {family: _letters(family) for family in families}
    return [f for f, text in letters.items() if text and any(text in fact for fact in facts)]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
