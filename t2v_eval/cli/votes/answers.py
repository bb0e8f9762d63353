"""What people saved: the options of commands that read it, and reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from t2v_eval.votes.key import Kind
    from t2v_eval.votes.reading import Answers

MinAttention = Annotated[
    float,
    typer.Option(
        help="Leave out people who passed a smaller share of their attention checks, 0 to 1. "
        "Default: nobody.",
        metavar="SHARE",
    ),
]


def read_people(
    files: Sequence[Path], keys: Sequence[Path], kind: Kind, min_attention: float
) -> tuple[list[Answers], list[str]]:
    """Read keys and the answers of people.

    Args:
        files: what people saved.
        keys: the keys of their pages.
        kind: what the command can use.
        min_attention: the share of attention checks that people must have passed.

    Returns:
        The answers that are not left out, and a line for each person who failed a check.
    """
    from t2v_eval.votes.key import read_key
    from t2v_eval.votes.reading import attentive, read_answers

    people = read_answers(files, [read_key(key, kind) for key in keys])
    remaining = attentive(people, min_attention)
    failed = [
        f"{person.person} passed {person.passed} of {person.attention} attention checks"
        f"{'' if person in remaining else ', and is left out'}"
        for person in people
        if person.passed < person.attention
    ]
    return remaining, failed
