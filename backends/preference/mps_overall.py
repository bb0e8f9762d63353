"""MPS: what people prefer overall, learnt from choices; the prompt looks for itself in the image.

Zhang et al. 2024, "Learning Multi-dimensional Human Preference for Text-to-Image Generation",
section 4. The tokens of the image attend to those words of the prompt that are near the words of
a condition ("light, color, ..."), through four layers on CLIP ViT-H/14; the score is exp(logit
scale) times the cosine of what the first token became and the end of the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention, silu
from transformers import AutoConfig, AutoModel, AutoTokenizer

from t2v_eval.local.base import Options, unit
from t2v_eval.local.weights import check_keys, fill, read_tensors, weight_files

from ..clip.hf_clip import PROCESSOR_PATTERNS, load_pretrained
from ..common.images import crop_extreme
from ..common.processors import check_end_token, check_vocabulary, read_image_processor
from ..common.tensors import preprocess_pixels
from .preference_logits import PreferencePairScorer

CLIP, CROSS = "model.", "cross_model.layers."
PUBLISHED_CLIP = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, "
    "structure, instance, texture, quantity, attributes, position, number, location, word, things."
)
PARTS = (  # of a layer: the image attends to the prompt, then to itself
    *("0.fn.norm.weight", "0.fn.norm.bias", "0.fn.to_q.weight", "0.fn.to_kv.weight"),
    *("0.fn.to_out.weight", "0.fn.ff.0.weight", "0.fn.ff.2.weight"),
    *("1.fn.norm.weight", "1.fn.norm.bias", "1.fn.rotary_emb.inv_freq"),
    *("1.fn.fused_attn_ff_proj.weight", "1.fn.attn_out.weight", "1.fn.ff_out.1.weight"),
)


class Mps(PreferencePairScorer):
    """The logit of being preferred, of images for one prompt.

    Args:
        checkpoint: tensors by the authors' names: a file, or a folder or hub id with
            model.safetensors. The authors publish a pickled module, which is refused.
        clip: a folder or hub id with the configuration, tokenizer and image processor of the CLIP
            it started from; by default what lies beside the weights, or else the published one.
        condition: the words that a prompt's words are compared with.
        threshold: how near a word must be, of the nearest, to be looked at: 0.3 in the authors'
            evaluation, 0.01 in their example.
    """

    def __init__(
        self,
        checkpoint: str,
        clip: str | None = None,
        condition: str = CONDITION,
        threshold: float = 0.3,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        found = self.locate(checkpoint)
        beside = found if found.is_dir() else found.parent
        if clip is None and not (beside / "preprocessor_config.json").exists():
            clip = PUBLISHED_CLIP
        reader = (
            self.locate(clip, PROCESSOR_PATTERNS, argument="clip", revision=None)
            if clip
            else beside
        )
        config: Any = load_pretrained(AutoConfig, reader)
        self.tokenizer = load_pretrained(AutoTokenizer, reader)
        self.processor = read_image_processor(reader, config)
        around = self.tokenizer("").input_ids
        check_vocabulary(self.tokenizer, config.text_config.vocab_size, reader, around)
        check_end_token(self.tokenizer, config.text_config, reader)
        self.context: int = config.text_config.max_position_embeddings
        tensors = {
            name.removeprefix("mps."): value if "inv_freq" in name else value.to(self.dtype)
            for name, value in read_tensors(found).items()
            if not name.endswith("position_ids")
        }
        self.clip = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        own = {name: value for name, value in tensors.items() if name.startswith(CLIP)}
        fill(self.clip, own, found, CLIP)
        self.clip.to(self.device)
        self.layers = _layers({n: t for n, t in tensors.items() if n not in own}, found)
        self.layers = [{n: t.to(self.device) for n, t in layer.items()} for layer in self.layers]
        self.scale: float = self.clip.logit_scale.double().exp().item()
        with torch.inference_mode():
            self._condition = self._encode_texts([condition])[0][0]
        self.threshold = threshold
        self.identity_facts = {"condition": repr(condition), "threshold": str(threshold)}
        self.files = [
            *weight_files(found),
            *sorted({*reader.glob("*.json"), *reader.glob("*.txt")}),
        ]

    def preprocess(self, image: Image.Image) -> Tensor:
        rgb = crop_extreme(image.convert("RGB"), self.processor.size.shortest_edge)
        inputs = self.processor(rgb, do_convert_rgb=False, return_tensors="pt")
        prepared: Tensor = inputs.pixel_values[0]
        return prepared

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return preprocess_pixels(self.processor, pixels)

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """All tokens of each image, projected."""
        hidden = self.clip.vision_model(pixel_values=batch).last_hidden_state
        projected: Tensor = self.clip.visual_projection(hidden)
        return projected.unbind()

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        words, ends = self._encode_texts([self.template.fill(text)[0] for text in unique])
        near = (words @ self._condition.T).amax(-1)
        seen = near / near.amax(-1, keepdim=True) > self.threshold
        which = torch.tensor([unique[text] for text in texts], device=self.device, dtype=torch.long)
        x, words, seen = torch.stack(list(states)), words[which], seen[which]
        for layer in self.layers:
            x = x + _attend_to_words(layer, x, words, seen)
            x = x + _attend_to_itself(layer, x)
        cosine = (unit(x[:, 0].float()) * unit(ends[which].float())).sum(-1)
        return self.scale * cosine

    def _encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """All tokens of texts, padding too, and their end tokens; projected."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        ).input_ids
        full = (t for t in texts if len(self.tokenizer(t, verbose=False).input_ids) > self.context)
        self.note_truncated(full)
        load_pretrained = self.clip.text_model(input_ids=ids.to(self.device))
        projection = self.clip.text_projection
        return projection(load_pretrained.last_hidden_state), projection(
            load_pretrained.pooler_output
        )


def _attend_to_words(layer: Mapping[str, Tensor], x: Tensor, words: Tensor, seen: Tensor) -> Tensor:
    x = layer_norm(x, x.shape[-1:], layer["0.fn.norm.weight"], layer["0.fn.norm.bias"])
    keys, values = linear(words, layer["0.fn.to_kv.weight"]).chunk(2, -1)
    queries = linear(x, layer["0.fn.to_q.weight"])
    load_pretrained = _attend(queries, keys, values, seen[:, None, None])
    inner = _gate(linear(x, layer["0.fn.ff.0.weight"]))
    return linear(load_pretrained, layer["0.fn.to_out.weight"]) + linear(
        inner, layer["0.fn.ff.2.weight"]
    )


def _attend_to_itself(layer: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = layer_norm(x, x.shape[-1:], layer["1.fn.norm.weight"], layer["1.fn.norm.bias"])
    frequencies = layer["1.fn.rotary_emb.inv_freq"].float()
    head = 2 * len(frequencies)
    sizes = [layer["1.fn.attn_out.weight"].shape[1], head, head]
    fused = linear(x, layer["1.fn.fused_attn_ff_proj.weight"])
    rest = fused.shape[-1] - sum(sizes)
    queries, keys, values, inner = torch.split(fused, [*sizes, rest], -1)
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * frequencies
    queries = _rotate(_heads(queries, head), angles[:, None]).flatten(-2)
    load_pretrained = _attend(queries, _rotate(keys, angles), values)
    out = linear(_gate(inner), layer["1.fn.ff_out.1.weight"])
    return linear(load_pretrained, layer["1.fn.attn_out.weight"]) + out


def _attend(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None) -> Tensor:
    """Attention of many heads (B, L, heads * width) to keys and values that they share."""
    heads = _heads(queries, keys.shape[-1]).transpose(1, 2)
    keys, values = (t[:, None].expand(-1, heads.shape[1], -1, -1) for t in (keys, values))
    load_pretrained = scaled_dot_product_attention(heads, keys, values, attn_mask=seen)
    return load_pretrained.transpose(1, 2).flatten(2)


def _heads(x: Tensor, width: int) -> Tensor:
    return x.view(*x.shape[:-1], -1, width)


def _gate(inner: Tensor) -> Tensor:
    values, gate = inner.chunk(2, -1)
    return silu(gate) * values


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions: the first half of the numbers are turned against the second."""
    first, second = x.chunk(2, -1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _layers(tensors: dict[str, Tensor], source: Path) -> list[dict[str, Tensor]]:
    """The weights of each layer above CLIP.

    Raises:
        CheckpointError: some are missing, or there are others.
    """
    number = len({name.split(".")[2] for name in tensors if name.startswith(CROSS)})
    names = [f"{CROSS}{n}.{part}" for n in range(max(1, number)) for part in PARTS]
    check_keys(source, [n for n in names if n not in tensors], tensors.keys() - set(names))
    return [{part: tensors[f"{CROSS}{n}.{part}"] for part in PARTS} for n in range(number)]
