"""The text tower of InternVideo2-CLIP 1B and 6B: the LLaMA of InternVL-C, with LoRA.

Chen et al. 2024, "InternVL: Scaling up Vision Foundation Models and Aligning for Generic
Visual-Linguistic Tasks". As internvideo2_clip_text.py of InternVideo2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from ..common.pretrained import load_pretrained

MAX_TOKENS = 80
PROMPT = "summarize:"
LORA_ALPHA = 32  # of the authors' configuration


class LlamaTower(nn.Module):
    """LLaMA whose state at the last token is projected.

    Args:
        config: of LLaMA.
        embedding: width of the embeddings.

    >>> config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8,
    ...                      num_hidden_layers=1, num_attention_heads=2)
    >>> LlamaTower(config, 4)(torch.tensor([[1, 5, 2, 0]])).shape
    torch.Size([1, 4])
    """

    def __init__(self, config: Any, embedding: int) -> None:
        super().__init__()
        self.transformer = LlamaModel(config)
        projection = torch.empty(config.hidden_size, embedding, dtype=torch.float32)
        self.text_projection = nn.Parameter(projection)

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, L) to embeddings (B, D); 0 is padding, and the unknown token too."""
        mask = ids > 0
        states = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        last: Tensor = states[torch.arange(len(ids)), mask.sum(1) - 1]
        return last @ self.text_projection


def read_llama_config(folder: Path) -> Any:
    """Read the config.json of LLaMA.

    Raises:
        CheckpointError: it is missing or damaged.

    >>> read_llama_config(Path("nowhere"))
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: nowhere has no config.json of LLaMA
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json of LLaMA")
    return load_pretrained(LlamaConfig, folder, "LLaMA")


class LlamaTokens:
    """LLaMA's tokenizer, with the prompt of InternVL-C before each text.

    Args:
        folder: holds tokenizer.model.
        rows: number of token embeddings of the tower.

    Raises:
        CheckpointError: the file is missing, damaged, or has more tokens.

    >>> LlamaTokens(Path("nowhere"), rows=9)
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: nowhere has no tokenizer.model of LLaMA
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.file = folder / "tokenizer.model"
        if not self.file.is_file():
            raise CheckpointError(f"{folder} has no tokenizer.model of LLaMA")
        self.pieces: Any = SentencePieceProcessor()
        try:
            self.pieces.Load(str(self.file))
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{self.file} is no model of SentencePiece: {error}") from error
        if self.pieces.GetPieceSize() > rows:
            raise CheckpointError(
                f"{self.file} has {self.pieces.GetPieceSize()} tokens, and the model has "
                f"embeddings for {rows}; put the tokenizer of this checkpoint there"
            )

    def __call__(
        self, texts: Sequence[str], as_read: Callable[[str], str]
    ) -> tuple[Tensor, list[str]]:
        """Return ids (B, L) of texts, padded with 0, and the texts that were cut.

        Args:
            texts: B texts.
            as_read: returns a text as the model reads it.
        """
        rows = [self.pieces.EncodeAsIds(PROMPT + as_read(text)) for text in texts]
        room = MAX_TOKENS - 2  # without start and end
        cut = [text for text, row in zip(texts, rows, strict=True) if len(row) > room]
        begin, end = self.pieces.bos_id(), self.pieces.eos_id()
        ids = [torch.tensor([begin, *row[:room], end], dtype=torch.long) for row in rows]
        return pad_sequence(ids, batch_first=True), cut
