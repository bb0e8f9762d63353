"""Save trained models in the layout of the hub, in float16, and load them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer, T5Tokenizer

from . import data
from .models import SELECT_LAYER, TOWER, WIDTH, ClipT5, t5_config
from .tokenizers import save_clip_tokenizer

TOWER_KEYS = "vision_tower.vision_tower.vision_model."
ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


def save_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save a CLIP in the layout of the hub, in float16, with its tokenizer and image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"architectures": ["CLIPModel"], "dtype": "float16"}
    _write(folder / "config.json", config)
    _write(folder / "preprocessor_config.json", preprocessor())
    save_clip_tokenizer(tokenizer, folder)


def load_clip(folder: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """Load what `save_clip` wrote, in float32."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model, CLIPTokenizer.from_pretrained(folder)


def save_vqa(model: ClipT5, folder: Path) -> None:
    """Save in CLIP-FlanT5's layout: all weights in one file, those of the tower included."""
    (folder / "vision_tower").mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    for prefix, part in (
        ("", model.t5),
        ("mm_projector.", model.mm_projector),
        (TOWER_KEYS, model.vision_tower),
    ):
        weights |= {prefix + name: value for name, value in part.state_dict().items()}
    weights = {k: v.detach().half().clone() for k, v in weights.items() if k not in ALIASES}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = t5_config(model.tokenizer).to_dict() | {
        "model_type": "clip_t5",
        "architectures": ["CLIPT5ForConditionalGeneration"],
        "dtype": "float16",
        "tie_word_embeddings": True,
        "image_aspect_ratio": "pad",
        "mm_vision_tower": "vision_tower",
        "mm_hidden_size": WIDTH,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": SELECT_LAYER,
        "mm_vision_select_feature": "patch",
        "use_mm_proj": True,
    }
    _write(folder / "config.json", config)
    tower = model.vision_tower.config.to_dict() | {"architectures": ["CLIPVisionModel"]}
    _write(folder / "vision_tower" / "config.json", tower)
    _write(folder / "vision_tower" / "preprocessor_config.json", preprocessor())
    model.tokenizer.save_pretrained(folder / "tokenizer")


def load_vqa(folder: Path) -> ClipT5:
    """Load what `save_vqa` wrote, in float32."""
    model = ClipT5(T5Tokenizer.from_pretrained(folder / "tokenizer"))
    weights = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    tower = {k.removeprefix(TOWER_KEYS): v for k, v in weights.items() if k.startswith(TOWER_KEYS)}
    projector = {
        k.removeprefix("mm_projector."): v for k, v in weights.items() if k.startswith("mm_")
    }
    rest = {k: v for k, v in weights.items() if not k.startswith(("mm_", "vision_tower"))}
    model.vision_tower.load_state_dict(tower)
    model.mm_projector.load_state_dict(projector)
    rest |= dict.fromkeys(ALIASES, rest["shared.weight"])
    model.t5.load_state_dict(rest)
    return model.eval()


def preprocessor() -> dict[str, object]:
    """Return the content of preprocessor_config.json.

    >>> preprocessor()["size"]
    {'shortest_edge': 48}
    """
    side = TOWER["image_size"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(data.MEAN),
        "image_std": list(data.STD),
    }


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
