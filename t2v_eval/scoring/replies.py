"""What a model writes, as the detail of a cell: the store keeps it, whole or not.

The value of such a cell is 1 where the reply is whole and 0 where it is not: it has been paid for
and would be the same again, so that it is stored and no failure. What a reply means is decided
anew in each run.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import torch

from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.utils.printable import whole_characters

EMPTY = "is empty"


class Reply(NamedTuple):
    """A reply to a prompt, or why there is none that can be used.

    >>> Reply(problem="is empty").text
    ''
    """

    text: str = ""
    problem: str = ""


def reply_chunk(position: int, text: str, whole: bool, max_tokens: int) -> ScoreChunk:
    """Return the finished cell of a reply.

    Args:
        position: of the cell.
        text: the reply.
        whole: whether the model ended it, and not the limit.
        max_tokens: the limit.

    >>> chunk = reply_chunk(0, "1 | a", whole=False, max_tokens=4)
    >>> chunk.values, read_reply(chunk.details[0]).problem
    (tensor([0.]), 'is cut at 4 tokens; pass more `max_tokens=`')
    """
    fields = {"written": whole_characters(text)}
    if not whole:
        fields["problem"] = f"is cut at {max_tokens} tokens; pass more `max_tokens=`"
    elif not text.strip():
        fields["problem"] = EMPTY
    value = torch.tensor([float("problem" not in fields)], dtype=torch.float32)
    detail = json.dumps(fields, ensure_ascii=False)
    return ScoreChunk(np.array([position]), value, None, [detail])


def read_reply(detail: str | None) -> Reply:
    """Return the reply in the detail of a cell.

    >>> read_reply('{"written": "OPEN"}')
    Reply(text='OPEN', problem='')
    """
    fields = json.loads(detail or "{}")
    return Reply(fields.get("written", ""), fields.get("problem", ""))
