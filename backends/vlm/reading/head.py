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
    """

    def __init__(self, network: Any, vocab_size: int | None, config: Any) -> None:
        self.network, self.vocab_size = network, vocab_size
        weight = network.get_output_embeddings().weight
        self.weight = weight[:vocab_size].float()
        self.padding_ids = [*range(len(self.weight), len(weight))]  # rows that are no tokens
        self.softcap = getattr(config, "final_logit_softcapping", None)

    @property
    def device(self) -> torch.device:
        """The last device of a model that is spread over several."""
        device: torch.device = self.weight.device
        return device

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """Return log-probabilities (..., V) of the next token after hidden states (..., D)."""
        logits: Tensor = hidden.to(self.device).float() @ self.weight.T
        if self.softcap is not None:
            logits = self.softcap * (logits / self.softcap).tanh()
        return logits.log_softmax(-1)

    def gather(self, rule: Rule, hidden: Tensor, labels: Tensor) -> Tensor:
        """Return what a rule needs (R, K) of hidden states (R, D) that predict labels (R,)."""
        parts = [slice(start, start + ROWS) for start in range(0, len(labels), ROWS)]
        return torch.cat(
            [rule.gather(self.log_probabilities(hidden[part]), labels[part]) for part in parts]
        )

    def agrees_with_network(self, ids: Tensor, tolerance: float) -> bool:
        """Return whether the network's own logits after tokens (1, L) are those of this head.

        Args:
            tolerance: the largest difference, relative to 1 + the largest logit.
        """
        with torch.inference_mode():
            logits = self.network(input_ids=ids).logits[0, -1, : self.vocab_size].float()
            states = self.network.base_model(input_ids=ids).last_hidden_state[0, -1]
        difference = logits.to(self.device).log_softmax(-1) - self.log_probabilities(states)
        return float(difference.abs().max()) <= tolerance * (1 + float(logits.abs().max()))
