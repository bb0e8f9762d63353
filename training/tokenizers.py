"""The two tokenizers: every word of the domain is one token, all else is split to characters."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from transformers import CLIPTokenizer, T5Tokenizer

MAX_CAPTION = 40  # tokens; the text tower has this many positions


def t5_tokenizer(words: Sequence[str]) -> T5Tokenizer:
    """Build a unigram tokenizer in which a word's piece scores above its letters.

    >>> t5_tokenizer(["circle"]).tokenize("circle")
    ['▁circle']
    """
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    known_pieces = {piece for piece, _ in pieces}
    candidates = [(mark + word, -4.0) for word in words for mark in ("▁", "")]
    candidates += [("▁", -8.0)]
    candidates += [(piece, -4.0) for piece in ("▁USER:", "▁ASSISTANT:", '"?', "▁no.")]
    candidates += [(character, -10.0) for character in string.printable.strip()]
    for piece, score in candidates:
        if piece not in known_pieces:
            known_pieces.add(piece)
            pieces.append((piece, score))
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def clip_tokenizer(words: Sequence[str]) -> CLIPTokenizer:
    """Build a byte-pair tokenizer with the merges that join each word, letter by letter.

    >>> clip_tokenizer(["circle"]).tokenize("circle")
    ['circle</w>']
    """
    letters = list(_byte_alphabet())
    pieces = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    lower = {word.lower() for word in words if word.isalpha()}
    for word in sorted(lower, key=lambda word: (len(word), word)):
        symbols = [*word[:-1], word[-1] + "</w>"]
        for first, second in merges:  # an earlier word's merges come first when this one is split
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == (first, second):
                    symbols[i : i + 2] = [first + second]
                i += 1
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            symbols[:2] = ["".join(symbols[:2])]
            if symbols[0] not in pieces:
                pieces.append(symbols[0])
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_CAPTION)  # type: ignore[arg-type]


def save_clip_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save tokenizer.json, and the two files that older loaders of CLIP need."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def _byte_alphabet() -> list[str]:
    """Return the 256 characters that byte-level BPE maps bytes to (printable ones unchanged)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(len(others))]
