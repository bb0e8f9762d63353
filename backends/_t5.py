"""What scorers with a T5 share: the probability of an answer given an encoded prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

IGNORED = -100  # the label where an answer is padded
ROWS = 1024  # answer tokens whose logits over the vocabulary are in memory at a time


def answer_probability(
    t5: Any, head: Tensor, encoded: Tensor, mask: Tensor, answers: Sequence[Sequence[int]]
) -> Tensor:
    """The geometric mean of the probabilities of an answer's tokens, the end token among them.

    Args:
        head: the rows of lm_head that are words, in float32.
        encoded, mask: what T5's encoder made of B prompts (B, L, width), and where there is one.
        answers: the tokens of B answers.
    """
    labels = pad_rows(answers, IGNORED, encoded.device)
    real = labels != IGNORED
    given = pad(labels, (1, -1), value=t5.config.decoder_start_token_id)
    hidden = t5.decoder(
        input_ids=given.clamp(min=0),
        encoder_hidden_states=encoded,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    if t5.config.scale_decoder_outputs:
        hidden = hidden * t5.config.d_model**-0.5
    log_p = torch.zeros(labels.shape, device=encoded.device)
    log_p[real] = _log_likelihood(head, hidden[real], labels[real])
    return (log_p.sum(1) / real.sum(1)).exp()


def pad_rows(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """Rows of tokens -> one tensor, `value` where they are shorter than the longest."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, True, value).to(device)


def _log_likelihood(head: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
    """log p of each label (R,) from the decoder's states (R, width)."""
    parts = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
    losses = [
        cross_entropy(hidden[part].float() @ head.T, labels[part], reduction="none")
        for part in parts
    ]
    return -torch.cat(losses)
