"""Read the checkpoint of CLIP-FlanT5: one set of weights for T5, projector and CLIP tower.

Networks are built on the meta device and filled with the tensors as read, so a model of 11 billion
parameters is in memory only once, in the precision it runs in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from t2v_eval.errors import CheckpointError
from t2v_eval.local.checkpoint_files import first_lines, read_json
from t2v_eval.local.weights import fill

from ..common.processors import match_tower_size
from ..common.transformers_internals import fill_position_ids
from ..common.weights import pop_prefixed

PROJECTOR = "mm_projector."
TOWER = "vision_tower.vision_tower.vision_model."
TOWER_NAMES = re.compile(r"(vision_tower\.vision_tower\.)?(vision_model\.)?")
ALIASES = ("embed_tokens.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Published T5 weights hold a bias that no version of the model uses.
UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


def read_config(folder: Path) -> dict[str, Any]:
    """Read the checkpoint's config.json.

    Raises:
        CheckpointError: it is missing or describes another kind of model.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip-flant5", device="cpu").files[0].parent
    >>> read_config(folder)["mm_vision_select_layer"]
    -2
    """
    config = read_json(folder / "config.json")
    missing = {"d_model", "mm_vision_tower", "mm_vision_select_layer"} - config.keys()
    if missing or config.get("mm_projector_type") != "mlp2x_gelu":
        what = f"lacks {', '.join(sorted(missing))}" if missing else "has no mlp2x_gelu projector"
        raise CheckpointError(f"{folder} is no CLIP-FlanT5 checkpoint: its config.json {what}")
    return config


def read_tokenizer(folder: Path, config: T5Config) -> T5Tokenizer:
    """Load the T5 tokenizer of a folder.

    Args:
        folder: holds tokenizer.json or spiece.model.
        config: the configuration of T5.

    Raises:
        CheckpointError: it is missing, or its special tokens differ from the model's.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip-flant5", device="cpu")
    >>> folder = scorer.files[0].parent / "tokenizer"
    >>> read_tokenizer(folder, scorer.t5.config).eos_token
    '</s>'
    """
    refused = CheckpointError(
        f"tokenizer {folder} is not the T5 tokenizer of this checkpoint; pass its folder (with "
        "tokenizer.json or spiece.model) or its hub id as `tokenizer=`"
    )
    if not any((folder / name).exists() for name in ("tokenizer.json", "spiece.model")):
        raise refused  # transformers would make up an empty one
    try:
        # The scorer truncates and reports long texts, so the tokenizer need not warn.
        tokenizer: T5Tokenizer = T5Tokenizer.from_pretrained(folder, model_max_length=10**9)
        end = tokenizer("").input_ids
    except Exception as error:  # its parsers raise many kinds for other tokenizers
        raise refused from error
    if end != [config.eos_token_id] or tokenizer.pad_token_id != config.pad_token_id:
        raise refused
    return tokenizer


def read_vision(folder: Path) -> tuple[CLIPVisionConfig, CLIPImageProcessorPil]:
    """Load the tower's configuration and its image processor (on Pillow, as in the original).

    Raises:
        CheckpointError: they cannot be loaded.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     CLIPVisionConfig(image_size=32, patch_size=16).save_pretrained(folder)
    ...     _ = CLIPImageProcessorPil(size=32, crop_size=32).save_pretrained(folder)
    ...     config, processor = read_vision(Path(folder))
    >>> config.image_size, processor.crop_size["height"]
    (32, 32)
    """
    try:
        config = CLIPVisionConfig.from_pretrained(folder)
        processor = CLIPImageProcessorPil.from_pretrained(folder)
    except Exception as error:  # transformers raises many kinds for other files
        raise CheckpointError(
            f"vision_tower {folder} describes no CLIP tower: {first_lines(error)}"
        ) from error
    match_tower_size(processor, folder, config)
    return config, processor


def build_tower(
    config: CLIPVisionConfig, select: int, tensors: dict[str, Tensor], source: Path
) -> CLIPVisionModel:
    """Build the tower up to the layer that gives `hidden_states[select]`.

    Args:
        config: the configuration of the whole tower; its number of layers is changed.
        select: index of the hidden states, as `mm_vision_select_layer` of config.json.
        tensors: named as in the checkpoint, or as in a repository of CLIP or of its tower.
        source: where they are from, for the message.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.

    >>> config = CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=3,
    ...     num_attention_heads=2, image_size=32, patch_size=16)
    >>> tensors = dict(CLIPVisionModel(config).state_dict())
    >>> build_tower(config, -2, tensors, Path("weights")).config.num_hidden_layers
    2
    """
    tensors = {n: t for n, t in tensors.items() if "vision_model." in n} or tensors
    tensors = {TOWER + TOWER_NAMES.sub("", name, count=1): t for name, t in tensors.items()}
    layers = config.num_hidden_layers
    config.num_hidden_layers = select if select >= 0 else layers + 1 + select
    pop_prefixed(tensors, f"{TOWER}embeddings.position_ids")
    for unread in range(config.num_hidden_layers, layers):
        pop_prefixed(tensors, f"{TOWER}encoder.layers.{unread}.")
    with torch.device("meta"):
        tower = CLIPVisionModel(config)
    fill(tower, tensors, source, TOWER)
    fill_position_ids(tower)
    return tower


def build_projector(
    inside: int, outside: int, tensors: dict[str, Tensor], source: Path
) -> nn.Sequential:
    """Build mlp2x_gelu: two linear layers from the tower's width to T5's.

    Args:
        inside: the tower's width.
        outside: T5's width.
        tensors: its weights, with names that begin with `PROJECTOR`.
        source: where they are from, for the message.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape.

    >>> shapes = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (3, 3), "2.bias": (3,)}
    >>> tensors = {PROJECTOR + name: torch.zeros(shape) for name, shape in shapes.items()}
    >>> build_projector(2, 3, tensors, Path("model.safetensors"))(torch.ones(1, 2)).tolist()
    [[0.0, 0.0, 0.0]]
    """
    with torch.device("meta"):
        first, second = nn.Linear(inside, outside), nn.Linear(outside, outside)
        projector = nn.Sequential(first, nn.GELU(), second)
    fill(projector, tensors, source, PROJECTOR)
    return projector


def build_t5(
    config: T5Config, rows: int, tensors: dict[str, Tensor], source: Path
) -> T5ForConditionalGeneration:
    """Build T5 with a vocabulary of `rows` tokens; surplus rows of published weights are dropped.

    They are dropped here since `resize_token_embeddings` would tie lm_head to the embeddings.

    Args:
        config: the configuration of T5; its vocabulary size is changed.
        rows: tokens of the tokenizer.
        tensors: the weights by name, changed in place.
        source: where they are from, for the message.

    Raises:
        CheckpointError: weights are missing, unexpected or of another shape, or have fewer rows.

    >>> config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    >>> tensors = dict(T5ForConditionalGeneration(config).state_dict())
    >>> build_t5(config, 10, tensors, Path("weights")).lm_head.weight.shape
    torch.Size([10, 8])
    """
    config.vocab_size = rows
    tensors.pop(UNUSED, None)
    shared = [tensors.pop(name) for name in ("shared.weight", *ALIASES) if name in tensors]
    if shared:
        tensors["shared.weight"] = shared[0]
        if config.scale_decoder_outputs:  # T5 does so exactly where lm_head is the embeddings
            tensors["lm_head.weight"] = shared[0]
    for name in tensors.keys() & {"shared.weight", "lm_head.weight"}:
        if len(tensors[name]) < rows:
            raise CheckpointError(
                f"{source}: {name} has {len(tensors[name])} rows for the {rows} tokens of the "
                "tokenizer; pass the tokenizer of this checkpoint as `tokenizer=`"
            )
        tensors[name] = tensors[name][:rows]
    if shared:
        tensors |= dict.fromkeys(ALIASES[1:], tensors["shared.weight"])
    with torch.device("meta"):
        t5 = T5ForConditionalGeneration(config)
    fill(t5, tensors, source)
    return t5
