"""A small LongCLIP in the layout of the hub."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.models.clip_goldens import (
    hf_clip_folder,
)


def as_hub(folder: Path, positions: int = 248) -> str:
    hf_clip_folder(folder, "longclip_hf")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "max_position_embeddings": positions,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)
