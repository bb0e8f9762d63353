"""Log-probabilities of tokens from the last hidden states of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rules import Rule

ROWS = 256  # rows whose logits over the vocabulary are in memory at a time


class LanguageModelHead:
    """The output embeddings of a network in float32: bfloat16 is too coarse for a probability.

    Args:
        network: the model with its head.
        vocab_size: how many rows of the vocabulary are tokens; None for all.
        config: the configuration of its language model, which may cap logits.

    >>> from types import SimpleNamespace
    >>> embeddings = torch.nn.Linear(4, 9, bias=False)
    >>> network = SimpleNamespace(get_output_embeddings=lambda: embeddings)
    >>> head = LanguageModelHead(network, vocab_size=8, config=SimpleNamespace())
    >>> head.log_probabilities(torch.rand(2, 4)).shape, head.padding_ids
    (torch.Size([2, 8]), [8])
    """

    def __init__(self, network: Any, vocab_size: int | None, config: Any) -> None:
        self.network, self.vocab_size = network, vocab_size
        weight = network.get_output_embeddings().weight
        self.weight = weight[:vocab_size].float()
        self.padding_ids = [*range(len(self.weight), len(weight))]  # rows that are no tokens
        self.softcap = getattr(config, "final_logit_softcapping", None)

    @property
    def device(self) -> torch.device:
        """The device of the head: the last one of a model that is spread over several."""
        device: torch.device = self.weight.device
        return device

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """Return the log-probabilities of the next token.

        Args:
            hidden: states (..., D) of the tokens before it.

        Returns:
            (..., V) float32 tensor.
        """
        logits: Tensor = hidden.to(self.device).float() @ self.weight.T
        if self.softcap is not None:
            logits = self.softcap * (logits / self.softcap).tanh()
        return logits.log_softmax(-1)

    def gather(self, rule: Rule, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return the log-probabilities that a rule needs, a few rows of logits in memory at a time.

        Args:
            rule: says which.
            hidden: states (R, D) that predict the labels.
            labels: (R,) token ids.

        Returns:
            (R, K) of `Rule.gather`.
        """
        parts = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
        return torch.cat(
            [rule.gather(self.log_probabilities(hidden[part]), labels[part]) for part in parts]
        )

    def agrees_with_network(self, ids: Tensor, tolerance: float) -> bool:
        """Return whether the network's own logits after some tokens are those of this head.

        Args:
            ids: the tokens (1, L).
            tolerance: the largest difference, relative to 1 + the largest logit.
        """
        with torch.inference_mode():
            logits = self.network(input_ids=ids).logits[0, -1, : self.vocab_size].float()
            states = self.network.base_model(input_ids=ids).last_hidden_state[0, -1]
        difference = logits.to(self.device).log_softmax(-1) - self.log_probabilities(states)
        return float(difference.abs().max()) <= tolerance * (1 + float(logits.abs().max()))
