"""Every use of undocumented parts of OpenCLIP: building networks, tokenizers and transforms.

Networks are built without OpenCLIP's loader, which may download and unpickle files.
`tests/backends/clip/test_open_clip_internals.py` has a test for each internal that is used.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import regex  # type: ignore[import-untyped]
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import (
    convert_to_custom_text_state_dict,
    resize_pos_embed,
    resize_text_pos_embed,
)
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Normalize, Resize  # type: ignore[import-untyped]

from t2v_eval.errors import CheckpointError, InputError, UnknownNameError, UnsupportedError
from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.local.weights import fill, read_tensors
from t2v_eval.utils.arguments import check_path

from ..common.tensors import resize, resize_short_side
from ..common.versions import tolerance_for, use_where_equal

# Steps of a transform that pixels do not need.
IGNORED_STEPS = ("MaybeConvertMode", "MaybeToTensor", "ToTensor", "partial")
SPECIAL_TOKENS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


def resolve_architecture(
    arch: str, pretrained: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configurations of an architecture and of the preprocessing for its weights.

    The latter says where published weights are, how images are prepared for them, and whether they
    were trained with quick-GELU.

    Args:
        arch: a name of OpenCLIP, or a JSON file.
        pretrained: a tag of OpenCLIP, or None.

    Raises:
        InputError: the JSON file cannot be read.
        UnknownNameError: OpenCLIP has no such architecture or tag.

    >>> config, preprocessing = resolve_architecture("ViT-B-32", "openai")
    >>> config["embed_dim"], preprocessing["quick_gelu"]
    (512, True)
    """
    if arch.endswith(".json"):
        try:
            config = json.loads(check_path("arch", arch).read_text(encoding="utf-8"))
            return config.get("model_cfg", config), config.get("preprocess_cfg", {})
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"arch {arch!r} cannot be read: {error}") from error
    name = arch.replace("/", "-")
    if name not in open_clip.list_models():
        remedy = "Pass a JSON file for an architecture of your own."
        raise UnknownNameError.nearest(
            "OpenCLIP architecture", arch, open_clip.list_models(), remedy
        )
    tag = open_clip.get_pretrained_cfg(name, pretrained or "")
    if pretrained and not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        remedy = f"OpenCLIP {open_clip.__version__} has {', '.join(tags) or 'none'}."
        raise UnknownNameError.nearest(f"pretrained {arch}", pretrained, tags, remedy)
    quick_gelu = tag.get("quick_gelu", False) or pretrained == "openai"
    return open_clip.get_model_config(name), {**tag, "quick_gelu": quick_gelu}


def build(config: dict[str, Any], quick_gelu: bool, device: torch.device) -> Any:
    """Build a network with random weights; no tower of timm or the hub is downloaded.

    Args:
        config: a model configuration of OpenCLIP; changed where it names weights to download.
        quick_gelu: whether the activation is quick-GELU, unless `config` says so.
        device: on which it is built.

    >>> vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 8, "head_width": 32}
    >>> text = {"layers": 1, "width": 64, "heads": 2, "vocab_size": 9, "context_length": 5}
    >>> config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    >>> network = build(config, quick_gelu=True, device=torch.device("cpu"))
    >>> network.encode_image(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 16])
    """
    config = {**config, "quick_gelu": config.get("quick_gelu", False) or quick_gelu}
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    coca = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    with device:
        return (coca if custom else open_clip.CLIP)(**config)


def load_weights(network: Any, file: Path, tensors: dict[str, Tensor] | None = None) -> None:
    """Load weights of any format that OpenCLIP reads into `network`.

    Args:
        network: built by `build`.
        file: the weight file.
        tensors: its content, where it has been read already.

    Raises:
        CheckpointError: the weights are not of this architecture.

    >>> config = {"embed_dim": 8, "vision_cfg": {"layers": 1, "width": 8, "head_width": 8,
    ...           "patch_size": 8, "image_size": 16},
    ...           "text_cfg": {"width": 8, "heads": 1, "layers": 1}}
    >>> source, target = (open_clip.CLIP(**config) for _ in range(2))
    >>> tensors = {f"module.{name}": value for name, value in source.state_dict().items()}
    >>> load_weights(target, Path("weights.pt"), tensors)
    >>> torch.equal(source.visual.proj, target.visual.proj)
    True
    """
    tensors = read_tensors(file) if tensors is None else tensors
    if next(iter(tensors), "").startswith("module."):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    try:
        tensors = convert_state_dict(network, tensors)
        if "positional_embedding" in tensors and not hasattr(network, "positional_embedding"):
            tensors = convert_to_custom_text_state_dict(tensors)
        tensors.pop("text.transformer.embeddings.position_ids", None)
        if network.logit_bias is not None:
            tensors.setdefault("logit_bias", torch.zeros((), dtype=torch.float32))
        for name in {"logit_scale", "logit_bias"} & tensors.keys():
            if getattr(network, name) is not None:
                tensors[name] = tensors[name].reshape(getattr(network, name).shape)
        resize_pos_embed(tensors, network)
        resize_text_pos_embed(tensors, network)
    except (RuntimeError, AssertionError, KeyError, IndexError) as error:
        raise CheckpointError(f"{file} does not fit this model: {error}") from error
    fill(network, tensors, file)


class TextTower:
    """Map token ids (B, L) to embeddings (B, D).

    In a causal tower, tokens after the end token do not affect it, so such a tower reads no further
    than the last end token of the batch.

    Args:
        network: a network of OpenCLIP with a text tower.

    >>> network = open_clip.CLIP(
    ...     embed_dim=8,
    ...     vision_cfg={"layers": 1, "width": 8, "head_width": 8, "patch_size": 8,
    ...         "image_size": 16},
    ...     text_cfg={"width": 8, "heads": 1, "layers": 1},
    ... ).eval()
    >>> encode, ids = TextTower(network), open_clip.SimpleTokenizer()(["a cat"])
    >>> torch.allclose(encode(ids), network.encode_text(ids), atol=1e-5)
    True
    """

    def __init__(self, network: Any) -> None:
        self.network, self.tower = network, getattr(network, "text", network)
        self.stops_at_end = False
        path = "texts read up to their end alone"
        dtype = next(network.parameters()).dtype
        use_where_equal(
            "open_clip_torch", path, self._switch, self._probe_embeddings, tolerance_for(dtype)
        )

    def __call__(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, D) of token ids (B, L)."""
        if self.stops_at_end:
            return self._encode_up_to_end(ids)
        embeddings: Tensor = self.network.encode_text(ids)
        return embeddings

    def _switch(self, on: bool) -> bool:
        tower = self.tower
        self.stops_at_end = (
            on
            and getattr(tower, "attn_mask", None) is not None
            and getattr(tower, "cls_emb", None) is None
            and self._pool in ("argmax", "eos")
        )
        return self.stops_at_end

    @property
    def _pool(self) -> str:
        """Return how the pooled token is chosen: by the end token's id or by the largest id."""
        tower = self.tower
        return str(getattr(tower, "text_pool_type", getattr(tower, "pool_type", "")))

    @property
    def _end(self) -> Any:
        return getattr(self.tower, "text_eos_id", getattr(self.tower, "eos_id", None))

    def _encode_up_to_end(self, ids: Tensor) -> Tensor:
        """Encode the tokens up to the last end token, as OpenCLIP's `encode_text` does."""
        tower, projection = self.tower, getattr(self.tower, "text_projection", None)
        ends = (ids if self._pool == "argmax" else (ids == self._end).int()).argmax(dim=-1)
        n = int(ends.max()) + 1
        x: Tensor = tower.token_embedding(ids[:, :n]) + tower.positional_embedding[:n]
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:n, :n]))
        x = x[torch.arange(len(x), device=x.device), ends]
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        return x

    def _probe_embeddings(self) -> Tensor:
        """Return the embeddings of two short texts of arbitrary tokens."""
        words = self.tower.token_embedding.num_embeddings
        ids = torch.zeros(2, len(self.tower.positional_embedding), dtype=torch.long)
        for row, length in enumerate((4, 6)):
            ids[row, :length] = torch.arange(1, length + 1) % (words - 1)
            ids[row, length] = words - 1 if self._pool == "argmax" else self._end
        return self(ids.to(next(self.network.parameters()).device))


def hub_tokenizer(name: str, **options: Any) -> Any:
    """Return OpenCLIP's wrapper of a Hugging Face tokenizer.

    Args:
        name: a folder or hub id.
        **options: options of `open_clip.tokenizer.HFTokenizer`.

    >>> import t2v_eval
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> hub_tokenizer(str(folder), context_length=8)(["a red circle"]).shape
    torch.Size([1, 8])
    """
    return HFTokenizer(name, **options)


def clip_tokenizer(context_length: int | None, **options: Any) -> Any:
    """Return the tokenizer of CLIP, whose vocabulary is parsed once in a process.

    Args:
        context_length: the number of tokens of a text.
        **options: options of `open_clip.SimpleTokenizer`; with any, it is made anew.

    >>> clip_tokenizer(8)(["a red circle"]).shape
    torch.Size([1, 8])
    """
    if options:
        return open_clip.SimpleTokenizer(context_length=context_length, **options)
    tokenizer = copy.copy(_parsed_tokenizer())
    tokenizer.context_length = context_length
    tokenizer.encoder, tokenizer.cache = dict(tokenizer.encoder), dict(tokenizer.cache)
    return tokenizer


@functools.cache
def _parsed_tokenizer() -> Any:
    return open_clip.SimpleTokenizer()


def count_tokens(tokenizer: Any, text: str) -> int:
    """Return the number of tokens of a text before truncation, with start and end token.

    >>> count_tokens(open_clip.SimpleTokenizer(), "a cat")
    4
    """
    if isinstance(tokenizer, HFTokenizer):
        cleaned = tokenizer.clean_fn(text)
        return len(tokenizer.tokenizer(cleaned, verbose=False).input_ids)
    return len(tokenizer.encode(text)) + 2


def spell_as_openai(tokenizer: Any) -> Any:
    """Rename the start and end token of OpenCLIP's tokenizer to OpenAI's spelling, in place.

    So that a caption with "<|endoftext|>" in it has the tokens that OpenAI's code gives it.

    >>> tokenizer = spell_as_openai(open_clip.SimpleTokenizer())
    >>> tokenizer.encode("<|endoftext|>")
    [49407]
    """
    pattern = tokenizer.pat.pattern
    for open_clip_name, openai_name in SPECIAL_TOKENS.items():
        tokenizer.encoder[openai_name] = tokenizer.encoder[open_clip_name]
        tokenizer.cache[openai_name] = openai_name
        pattern = pattern.replace(open_clip_name, regex.escape(openai_name))
    tokenizer.pat = regex.compile(pattern, regex.IGNORECASE)
    return tokenizer


def round_weights(network: nn.Module) -> None:
    """Round those weights to float16 that OpenAI's loader rounds.

    Published weights are not changed by this; weights fine-tuned in float32 are.

    Args:
        network: a network of OpenCLIP, changed in place.

    >>> network = nn.Linear(1, 1)
    >>> _ = network.weight.data.fill_(1 / 3)
    >>> round_weights(network)
    >>> network.weight.dtype
    torch.float16
    """
    open_clip.convert_weights_to_lp(network, torch.float16)


def image_size_of(network: Any) -> tuple[int, int]:
    """Return height and width of the images that a network takes, in pixels.

    >>> image_size_of(SimpleNamespace(visual=SimpleNamespace(image_size=224)))
    (224, 224)
    """
    size = network.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    return height, width


def first_resizing(transform: Any) -> Resizing | None:
    """Return the first resizing of OpenCLIP's validation transform, if it is of a plain kind.

    >>> first_resizing(open_clip.image_transform(8, is_train=False))
    Resizing(size=8, filter='bicubic')
    """
    step = next((s for s in transform.transforms if isinstance(s, (Resize, ResizeKeepRatio))), None)
    if not isinstance(step, Resize) or step.interpolation.value not in ("bilinear", "bicubic"):
        return None
    size = step.size if isinstance(step.size, int) else tuple(step.size)
    return Resizing(size, step.interpolation.value)


def apply_transform(transform: Any, pixels: Tensor) -> Tensor:
    """Apply the steps of OpenCLIP's validation transform to pixels.

    Args:
        transform: the result of `open_clip.image_transform` with `is_train=False`.
        pixels: (B, 3, H, W), from 0 to 1.

    Returns:
        Model inputs (B, 3, h, w), with a gradient to `pixels`.

    Raises:
        InputError: the aspect ratio is too extreme.
        UnsupportedError: a step of it has no gradient here.

    >>> transform = open_clip.image_transform(8, is_train=False)
    >>> apply_transform(transform, torch.rand(1, 3, 20, 16)).shape
    torch.Size([1, 3, 8, 8])
    """
    for step in transform.transforms:
        if isinstance(step, Resize) and isinstance(step.size, int):
            pixels = resize_short_side(pixels, step.size, step.interpolation.value)
        elif isinstance(step, Resize):
            height, width = step.size
            pixels = resize(pixels, (height, width), step.interpolation.value)
        elif isinstance(step, ResizeKeepRatio):
            size_only = SimpleNamespace(size=tuple(pixels.shape[:-3:-1]))
            height, width = step.get_params(size_only, step.size, step.longest)
            pixels = resize(pixels, (height, width), step.interpolation.value)
        elif isinstance(step, (CenterCrop, CenterCropOrPad, Normalize)):
            pixels = step(pixels)
        elif getattr(step, "__name__", type(step).__name__) not in IGNORED_STEPS:
            raise UnsupportedError(
                f"OpenCLIP {open_clip.__version__} prepares images with {step!r}, which has no "
                "gradient here"
            )
    return pixels
