"""Checkpoints of the CLIP goldens, rebuilt in the layouts that users have.

The weights lie in compressed .npz files, in which rows of the token embedding that no golden text
reads are zero; the vocabulary is the one that OpenCLIP ships.
"""

from __future__ import annotations

import functools
import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL
import pytest
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parents[2] / "goldens" / "clip"
exact_pixels = pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13,
    reason="the answers were made with Pillow 13, which resizes some sizes otherwise",
)
RGB = ("large.png", "long224.png", "square.png", "tall.png", "wide.png")


def cases(name: str) -> dict[str, dict[str, Any]]:
    """The cases of one original by id."""
    return {c["id"]: c for c in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))}


def tensors(name: str) -> dict[str, torch.Tensor]:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def arch(name: str) -> str:
    return str(FOLDER / f"{name}.json")


def open_clip_file(folder: Path, name: str = "open_clip") -> str:
    """A checkpoint as open_clip's training writes it."""
    path = folder / "tiny.pt"
    torch.save({"epoch": 3, "name": "tiny", "state_dict": tensors(name)}, path)
    return str(path)


def hf_clip_folder(folder: Path, name: str = "hf_clip", activation: str = "quick_gelu") -> str:
    """A CLIP model as transformers saves it."""
    shutil.copytree(FOLDER / "hf_clip", folder, dirs_exist_ok=True)
    config = (folder / "config.json").read_text("utf-8").replace("quick_gelu", activation)
    (folder / "config.json").write_text(config, "utf-8")
    save_file(tensors(name), folder / "model.safetensors", {"format": "pt"})
    for file, content in _tokenizer_files().items():
        (folder / file).write_text(content, "utf-8")
    return str(folder)


@functools.cache
def _tokenizer_files() -> dict[str, str]:
    tokenizer = open_clip.SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(token, token): n for token, n in tokenizer.encoder.items()}
    merges = [" ".join(pair) for pair in tokenizer.bpe_ranks]
    return {
        "vocab.json": json.dumps(vocabulary),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
    }


def long_clip_file(folder: Path, **changed: torch.Tensor) -> str:
    """A checkpoint as LongCLIP's training writes it."""
    path = folder / "longclip-L.pt"
    torch.save({n: t.float() for n, t in tensors("longclip").items()} | changed, path)
    return str(path)


def openai_archive(folder: Path) -> str:
    """A TorchScript archive as OpenAI publishes them."""
    path = folder / "tiny-openai.pt"
    path.write_bytes(lzma.decompress((FOLDER / "openai_clip.pt.xz").read_bytes()))
    return str(path)


def images(case: dict[str, Any]) -> list[str]:
    return [str(FOLDER / image) for image in case["images"]]


def plain(case: dict[str, Any]) -> list[int]:
    """Which images of a case are RGB, so that nothing depends on how they become so."""
    return [n for n, image in enumerate(case["images"]) if Path(image).name in RGB]
