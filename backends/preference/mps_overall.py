"""MPS: overall human preference, learnt from choices, by attention from image to prompt.

Zhang et al. 2024, "Learning Multi-dimensional Human Preference for Text-to-Image Generation",
section 4. The image's tokens attend to those words of the prompt that are similar to words of a
condition ("light, color, ..."), through four layers on CLIP ViT-H/14; the score is exp(logit
scale) times the cosine of the first token's output and the prompt's end token.
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
from typing_extensions import override

from t2v_eval.local.base import Options
from t2v_eval.local.dual_encoder import unit
from t2v_eval.local.weights import check_keys, fill, read_tensors, weight_files

from ..common.images import crop_extreme
from ..common.pretrained import PROCESSOR_PATTERNS, load_pretrained
from ..common.processors import check_end_token, check_vocabulary, read_image_processor
from ..common.question_only import QuestionOnlyScorer
from ..common.tensors import preprocess_pixels
from ..common.transformers_internals import empty_weights
from .preference_logits import PreferenceScorer

CLIP, CROSS_LAYERS = "model.", "cross_model.layers."
PUBLISHED_CLIP = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, "
    "structure, instance, texture, quantity, attributes, position, number, location, word, things."
)
LAYER_WEIGHTS = (  # of a layer: cross-attention to the prompt, then self-attention
    *("0.fn.norm.weight", "0.fn.norm.bias", "0.fn.to_q.weight", "0.fn.to_kv.weight"),
    *("0.fn.to_out.weight", "0.fn.ff.0.weight", "0.fn.ff.2.weight"),
    *("1.fn.norm.weight", "1.fn.norm.bias", "1.fn.rotary_emb.inv_freq"),
    *("1.fn.fused_attn_ff_proj.weight", "1.fn.attn_out.weight", "1.fn.ff_out.1.weight"),
)


class Mps(PreferenceScorer, QuestionOnlyScorer):
    """Score the logit of being preferred among the images of one prompt, without bounds.

    Args:
        checkpoint: tensors by the authors' names: a file, or a folder or hub id with
            model.safetensors. The authors publish a pickled module, which is not loaded.
        clip: a folder or hub id with the configuration, tokenizer and image processor of the CLIP
            it was fine-tuned from; by default those beside the weights, or else the published.
        condition: the words that a prompt's words are compared with.
        threshold: words whose similarity to the condition is below this share of the greatest are
            masked: 0.3 in the authors' evaluation, 0.01 in their example.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: the template has an answer.

    >>> CONDITION.split(", ")[:3]
    ['light', 'color', 'clarity']
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
        location = self.locate(checkpoint)
        weight_folder = location if location.is_dir() else location.parent
        if clip is None and not (weight_folder / "preprocessor_config.json").exists():
            clip = PUBLISHED_CLIP
        processor_folder = (
            self.locate(clip, PROCESSOR_PATTERNS, argument="clip", revision=None)
            if clip
            else weight_folder
        )
        config: Any = load_pretrained(AutoConfig, processor_folder, "CLIP")
        self.tokenizer = load_pretrained(AutoTokenizer, processor_folder, "CLIP")
        self.processor = read_image_processor(processor_folder, config)
        special_ids = self.tokenizer("").input_ids
        check_vocabulary(
            self.tokenizer, config.text_config.vocab_size, processor_folder, special_ids
        )
        check_end_token(self.tokenizer, config.text_config, processor_folder)
        self.context: int = config.text_config.max_position_embeddings
        tensors = {
            name.removeprefix("mps."): value if "inv_freq" in name else value.to(self.dtype)
            for name, value in read_tensors(location).items()
            if not name.endswith("position_ids")
        }
        with empty_weights():
            self.clip = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        clip_weights = {name: value for name, value in tensors.items() if name.startswith(CLIP)}
        fill(self.clip, clip_weights, location, CLIP)
        self.clip.to(self.device)
        self.layers = _layers({n: t for n, t in tensors.items() if n not in clip_weights}, location)
        self.layers = [{n: t.to(self.device) for n, t in layer.items()} for layer in self.layers]
        self.scale: float = self.clip.logit_scale.double().exp().item()
        with torch.inference_mode():
            self._condition = self._encode_texts([condition])[0][0]
        self.threshold = threshold
        self.identity_facts = {"condition": repr(condition), "threshold": str(threshold)}
        self.files = [
            *weight_files(location),
            *sorted({*processor_folder.glob("*.json"), *processor_folder.glob("*.txt")}),
        ]

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        rgb = crop_extreme(image.convert("RGB"), self.processor.size.shortest_edge)
        inputs = self.processor(rgb, do_convert_rgb=False, return_tensors="pt")
        prepared: Tensor = inputs.pixel_values[0]
        return prepared

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return preprocess_pixels(self.processor, pixels)

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the projected tokens (P, D) of each image."""
        hidden = self.clip.vision_model(pixel_values=batch).last_hidden_state
        projected: Tensor = self.clip.visual_projection(hidden)
        return projected.unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        words, ends = self._encode_texts([self.template.fill(text)[0] for text in unique])
        relevance = (words @ self._condition.T).amax(-1)
        attended = relevance / relevance.amax(-1, keepdim=True) > self.threshold
        text_index = torch.tensor(
            [unique[text] for text in texts], device=self.device, dtype=torch.long
        )
        x, words, attended = torch.stack(list(states)), words[text_index], attended[text_index]
        for layer in self.layers:
            x = x + _attend_to_words(layer, x, words, attended)
            x = x + _attend_to_itself(layer, x)
        cosine = (unit(x[:, 0].float()) * unit(ends[text_index].float())).sum(-1)
        return self.scale * cosine

    def _encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return projected tokens (N, L, D), padding included, and end tokens (N, D) of texts."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        ).input_ids
        self.note_truncated(
            text
            for text in texts
            if len(self.tokenizer(text, verbose=False).input_ids) > self.context
        )
        encoded = self.clip.text_model(input_ids=ids.to(self.device))
        projection = self.clip.text_projection
        return projection(encoded.last_hidden_state), projection(encoded.pooler_output)


def _attend_to_words(
    layer: Mapping[str, Tensor], x: Tensor, words: Tensor, attended: Tensor
) -> Tensor:
    x = layer_norm(x, x.shape[-1:], layer["0.fn.norm.weight"], layer["0.fn.norm.bias"])
    keys, values = linear(words, layer["0.fn.to_kv.weight"]).chunk(2, -1)
    queries = linear(x, layer["0.fn.to_q.weight"])
    output = _attend(queries, keys, values, attended[:, None, None])
    inner = _gate(linear(x, layer["0.fn.ff.0.weight"]))
    return linear(output, layer["0.fn.to_out.weight"]) + linear(inner, layer["0.fn.ff.2.weight"])


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
    attended = _attend(queries, _rotate(keys, angles), values)
    out = linear(_gate(inner), layer["1.fn.ff_out.1.weight"])
    return linear(attended, layer["1.fn.attn_out.weight"]) + out


def _attend(
    queries: Tensor, keys: Tensor, values: Tensor, attended: Tensor | None = None
) -> Tensor:
    """Attend with many heads (B, L, heads * width) to keys and values that all heads share."""
    heads = _heads(queries, keys.shape[-1]).transpose(1, 2)
    keys, values = (t[:, None].expand(-1, heads.shape[1], -1, -1) for t in (keys, values))
    output = scaled_dot_product_attention(heads, keys, values, attn_mask=attended)
    return output.transpose(1, 2).flatten(2)


def _heads(x: Tensor, width: int) -> Tensor:
    return x.view(*x.shape[:-1], -1, width)


def _gate(inner: Tensor) -> Tensor:
    values, gate = inner.chunk(2, -1)
    return silu(gate) * values


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Apply rotary position embeddings, rotating the first half of the channels by the second."""
    first, second = x.chunk(2, -1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _layers(tensors: dict[str, Tensor], source: Path) -> list[dict[str, Tensor]]:
    """Return the weights of each layer on top of CLIP.

    Raises:
        CheckpointError: weights are missing or unexpected.
    """
    number = len({name.split(".")[2] for name in tensors if name.startswith(CROSS_LAYERS)})
    names = [f"{CROSS_LAYERS}{n}.{part}" for n in range(max(1, number)) for part in LAYER_WEIGHTS]
    check_keys(source, [n for n in names if n not in tensors], tensors.keys() - set(names))
    return [
        {part: tensors[f"{CROSS_LAYERS}{n}.{part}"] for part in LAYER_WEIGHTS}
        for n in range(number)
    ]
