"""What bert-score keeps to itself: the tokenizer of its scorer."""

from __future__ import annotations

import importlib
from typing import Any


def put_blank_before_first_word(scorer: Any, model: str) -> None:
    """Make tokenizers of RoBERTa and GPT-2 read a caption as if it began with a blank.

    bert-score asks for that in each call, as published values have it, but transformers 5 takes it
    only when the tokenizer is made and ignores it in a call.

    Args:
        scorer: a `bert_score.BERTScorer`.
        model: the name or folder of its model.

    >>> from types import SimpleNamespace
    >>> put_blank_before_first_word(SimpleNamespace(_tokenizer=None), "bert-base-uncased")
    """
    if type(scorer._tokenizer).__name__.startswith(("Roberta", "GPT2")):
        transformers = importlib.import_module("transformers")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model, add_prefix_space=True)
        scorer._tokenizer = tokenizer
