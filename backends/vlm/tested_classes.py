"""Which networks give the same scores whatever is shared: those that a test compares.

A card says so under `tested`, which the tests hold against their small models; its words under
`verified` decide nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from t2v_eval.registry import models


@cache
def tested_classes() -> frozenset[tuple[str, str]]:
    """Return class and kind of language model of each network that tests compare.

    Cards of other packages have no say, since their tests are not ours.

    >>> ("LlavaForConditionalGeneration", "llama") in tested_classes()
    True
    """
    cards = [c for c in models.cards.values() if c.module.startswith("t2v_eval.backends.")]
    pairs = (entry.partition(" ") for card in cards for entry in card.tested)
    return frozenset((name, language) for name, _, language in pairs)


def is_tested(network: Any, config: Any) -> bool:
    """Return whether tests compare a network of this class with this kind of language model.

    >>> from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    >>> network = object.__new__(LlavaForConditionalGeneration)
    >>> is_tested(network, LlavaConfig(text_config=LlamaConfig()))
    True
    """
    return (type(network).__name__, config.get_text_config().model_type) in tested_classes()
