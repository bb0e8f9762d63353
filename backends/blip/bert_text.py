"""Texts tokenized by BERT, for BLIP, BLIP-2 and models of videos.

BERT is uncased, and a text has at most `max_tokens` tokens with [CLS] and [SEP], as by the authors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BertTokenizer

from t2v_eval.errors import CheckpointError
from t2v_eval.local.base import LocalScorer

from ..common.question_only import QuestionOnlyScorer, State

VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class BertTextScorer(LocalScorer):
    """A scorer whose texts are tokenized by BERT; call `set_tokenizer` before scoring.

    Attributes:
        max_tokens: how many tokens of a text are read; 35 for BLIP-2.

    >>> from tempfile import TemporaryDirectory
    >>> from t2v_eval.backends.blip.blip2 import Blip2ITC
    >>> scorer = object.__new__(Blip2ITC)  # the tokenizer needs no weights
    >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "tokenizer.json")
    ...     tokens = {token: number for number, token in enumerate(vocabulary)}
    ...     _ = file.write_text(json.dumps({"model": {"vocab": tokens}}))
    ...     scorer.set_tokenizer(Path(folder), ["[DEC]"], rows=8).name
    'tokenizer.json'
    """

    max_tokens: int = 35

    def set_tokenizer(self, folder: Path, added: Sequence[str], rows: int) -> Path:
        """Build the tokenizer from the vocabulary in `folder`, and return the vocabulary's file.

        Only the vocabulary is read, since published folders add tokens that the authors' models do
        not have.

        Args:
            folder: holds vocab.txt or tokenizer.json.
            added: the special tokens that the authors add to BERT's.
            rows: number of token embeddings of the model.

        Raises:
            CheckpointError: the vocabulary is missing or is that of another model.
        """
        files = [folder / name for name in VOCABULARY_FILES]
        file = next((file for file in files if file.exists()), files[0])
        try:
            vocabulary = _read_vocabulary(file)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            expected = " or ".join(VOCABULARY_FILES)
            raise CheckpointError(f"{folder} holds no {expected} of BERT: {error}") from error
        self._tokenizer: Any = BertTokenizer(vocab=vocabulary)
        self._tokenizer.add_tokens(list(added), special_tokens=True)
        if len(self._tokenizer) > rows:
            more = f" with {', '.join(added)}" if added else ""
            raise CheckpointError(
                f"{file} has {len(self._tokenizer)} tokens{more}, but the model has embeddings for "
                f"{rows}; put the vocabulary of this checkpoint there"
            )
        if missing := [token for token in SPECIAL_TOKENS if token not in vocabulary]:
            raise CheckpointError(
                f"{file} is not the vocabulary of BERT: it lacks {', '.join(missing)}; put that of "
                "this checkpoint there"
            )
        if out_of_range := [
            n for n in vocabulary.values() if type(n) is not int or not 0 <= n < rows
        ]:
            raise CheckpointError(
                f"{file} has {len(vocabulary)} tokens, one with the id {out_of_range[0]}, but the "
                f"model has embeddings for {rows}; put the vocabulary of this checkpoint there"
            )
        return file

    def as_read(self, text: str) -> str:
        """Return a text as the tokenizer reads it; unchanged, unless a subclass cleans texts."""
        return text

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids (B, L) and attention mask (B, L) of texts, truncated where too long."""
        # One token more than fits tells truncated texts from those that just fit.
        limit = self.max_tokens
        read = [self.as_read(text) for text in texts]
        rows = self._tokenizer(read, truncation=True, max_length=limit + 1).input_ids
        self.note_truncated(t for t, row in zip(texts, rows, strict=True) if len(row) > limit)
        rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
        ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor(
            [[len(row)] for row in rows], dtype=torch.long
        )
        return ids.to(self.device), mask.long().to(self.device)


class BertTextPairScorer(BertTextScorer, QuestionOnlyScorer[State], Generic[State]):
    """Encode the filled question, tokenized by BERT, together with the image, without an answer.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("blip2-itm", checkpoint="/models/blip2")  # doctest: +SKIP
    >>> ids, mask = scorer.tokenize_filled(["a cat", "two dogs"])  # doctest: +SKIP
    >>> ids.shape == mask.shape  # doctest: +SKIP
    True
    """

    def tokenize_filled(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return `tokenize` of texts with the template applied."""
        return self.tokenize([self.template.fill(text)[0] for text in texts])


def _read_vocabulary(file: Path) -> dict[str, int]:
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return dict(json.loads(content)["model"]["vocab"])
    return {token: number for number, token in enumerate(content.removesuffix("\n").split("\n"))}
