"""Small random models of the SigLIP family and MetaCLIP 2, as their checkpoints are laid out."""

from __future__ import annotations

from pathlib import Path

import sentencepiece
import transformers
from helpers.models.clip_goldens import (
    hf_clip_folder,
)

TEXTS = ["a red cube on a blue sphere", "a cat", "", "3 apples; price: $4.99!", "cat " * 100]


LIMIT = 32  # tokens


VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
    "max_position_embeddings": LIMIT,
}


def pieces(folder: Path) -> str:
    """A vocabulary of sentence pieces, as SigLIP's."""
    corpus = [*TEXTS, "a photo of two dogs", "the quick brown fox jumps over the lazy dog"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return str(folder / "spiece.model")


def siglip(folder: Path) -> None:
    config = transformers.SiglipConfig(
        vision_config=VISION, text_config={**TEXT, "pad_token_id": 1, "eos_token_id": 1}
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    transformers.SiglipTokenizer(pieces(folder)).save_pretrained(folder)
    transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def siglip2(folder: Path) -> None:
    vision = {**VISION, "num_patches": 16}
    del vision["image_size"]
    config = transformers.Siglip2Config(vision_config=vision, text_config=TEXT)
    transformers.Siglip2Model(config).save_pretrained(folder)
    letters = [*map(chr, range(32, 127)), "▁"]
    vocabulary = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
    vocabulary |= {letter: n for n, letter in enumerate(letters, len(vocabulary))}
    tokenizer = transformers.Siglip2Tokenizer(vocab=vocabulary, merges=[], padding_side="right")
    tokenizer.save_pretrained(folder)
    processor = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    processor.save_pretrained(folder)


def metaclip2(folder: Path) -> None:
    hf_clip_folder(folder)  # for its tokenizer and image processor
    (folder / "config.json").unlink()
    text = {**TEXT, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406}
    config = transformers.MetaClip2Config(vision_config=VISION, text_config=text)
    transformers.MetaClip2Model(config).save_pretrained(folder)


MAKERS = {"siglip": siglip, "siglip2": siglip2, "metaclip_2": metaclip2}
