"""mPLUG-Owl2: a vision encoder, an abstractor of its tokens, and LLaMA with weights for images.

Ye et al. 2024, "mPLUG-Owl2: Revolutionizing Multi-modal Large Language Model with Modality
Collaboration", section 3. Queries read the image tokens; in LLaMA, norms, keys and values of image
tokens have weights of their own. Follows visual_encoder.py and modeling_llama2.py of
X-PLUG/mPLUG-Owl; modules have the names of its weights.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import LlamaModel
from typing_extensions import override

from ..video.clip_text import quick_gelu
from ..video.layers import Mlp, attend

EPS = 1e-6  # of the norms of the vision encoder, and inside the abstractor's feed-forward layers


class TransformerSizes(NamedTuple):
    """Sizes of a transformer.

    Attributes:
        width: of its states.
        hidden: width inside its feed-forward layers.
        heads: of each attention.
        layers: their number.

    >>> TransformerSizes(width=1024, hidden=4096, heads=16, layers=24).layers
    24
    """

    width: int
    hidden: int
    heads: int
    layers: int


class QuickMlp(Mlp):
    """Two linear layers with CLIP's approximation of GELU between them.

    >>> QuickMlp(4, 8)(torch.zeros(1, 3, 4)).shape
    torch.Size([1, 3, 4])
    """

    @override
    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = self.fc2(quick_gelu(self.fc1(states)))
        return output


class VisionLayer(nn.Module):
    """A layer of the vision encoder; queries, keys and values of a head lie side by side.

    >>> VisionLayer(TransformerSizes(8, 16, 2, 1))(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.input_layernorm = nn.LayerNorm(sizes.width, EPS)
        self.query_key_value = nn.Linear(sizes.width, 3 * sizes.width)
        self.dense = nn.Linear(sizes.width, sizes.width)
        self.post_attention_layernorm = nn.LayerNorm(sizes.width, EPS)
        self.mlp = QuickMlp(sizes.width, sizes.hidden)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (B, L, width) to the same shape."""
        mixed = self.query_key_value(self.input_layernorm(states))
        of_heads = mixed.view(*states.shape[:2], self.heads, 3, -1)
        query, key, value = (part.flatten(2) for part in of_heads.unbind(3))
        states = states + self.dense(attend(query, key, value, self.heads))
        output: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return output


class VisionEncoder(nn.Module):
    """Encode square images as one token for the whole and one for each patch.

    Args:
        sizes: of the transformer.
        image_size: side of an image, in pixels.
        patch_size: side of a patch, in pixels.

    >>> VisionEncoder(TransformerSizes(8, 16, 2, 1), 28, 14)(torch.zeros(1, 3, 28, 28)).shape
    torch.Size([1, 5, 8])
    """

    def __init__(self, sizes: TransformerSizes, image_size: int, patch_size: int) -> None:
        super().__init__()
        count = (image_size // patch_size) ** 2 + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width, dtype=torch.float32))
        self.patch_embed = nn.Conv2d(3, sizes.width, patch_size, patch_size, bias=False)
        positions = torch.zeros(1, count, sizes.width, dtype=torch.float32)
        self.position_embedding = nn.Parameter(positions)
        self.pre_layernorm = nn.LayerNorm(sizes.width, EPS)
        self.layers = nn.ModuleList(VisionLayer(sizes) for _ in range(sizes.layers))
        self.post_layernorm = nn.LayerNorm(sizes.width, EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to tokens (B, L, width)."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        states = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        states = self.pre_layernorm(states + self.position_embedding)
        for layer in self.layers:
            states = layer(states)
        tokens: Tensor = self.post_layernorm(states)
        return tokens


class GatedMlp(nn.Module):
    """A feed-forward layer with a gate and a norm inside.

    >>> GatedMlp(4, 8)(torch.zeros(1, 3, 4)).shape
    torch.Size([1, 3, 4])
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(hidden, width)
        self.w3 = nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, EPS)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (..., width) to the same shape."""
        output: Tensor = self.w2(self.ffn_ln(silu(self.w1(states)) * self.w3(states)))
        return output


class AbstractorLayer(nn.Module):
    """Queries read image tokens and each other; their residual path begins after the norm.

    >>> layer = AbstractorLayer(TransformerSizes(8, 16, 2, 1), queries=3, tokens=5)
    >>> layer(torch.zeros(1, 3, 8), torch.zeros(1, 5, 8)).shape
    torch.Size([1, 3, 8])
    """

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, sizes: TransformerSizes, queries: int, tokens: int) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.norm1, self.normk, self.norm2 = (nn.LayerNorm(sizes.width) for _ in range(3))
        self.query, self.key, self.value, self.out_proj = (
            nn.Linear(sizes.width, sizes.width) for _ in range(4)
        )
        for name, count in (("q_pos_embed", queries), ("k_pos_embed", tokens)):
            self.register_buffer(name, torch.zeros(count, sizes.width, dtype=torch.float32))
        self.mlp = GatedMlp(sizes.width, sizes.hidden)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Map queries (B, Q, width) to the same shape, given image tokens (B, L, width)."""
        queries = self.norm1(queries)
        read = torch.cat([queries, self.normk(tokens)], dim=1)
        places = torch.cat([self.q_pos_embed, self.k_pos_embed])
        query, key = self.query(queries + self.q_pos_embed), self.key(read + places)
        states = queries + self.out_proj(attend(query, key, self.value(read), self.heads))
        output: Tensor = states + self.mlp(self.norm2(states))
        return output


class Abstractor(nn.Module):
    """Summarise image tokens in a fixed number of tokens for the language model.

    Args:
        sizes: of its layers.
        queries: number of these tokens; one more ends the image.
        tokens: number of image tokens.
        width: of the language model.

    >>> Abstractor(TransformerSizes(8, 16, 2, 1), 3, 5, 12)(torch.zeros(1, 5, 8)).shape
    torch.Size([1, 4, 12])
    """

    def __init__(self, sizes: TransformerSizes, queries: int, tokens: int, width: int) -> None:
        super().__init__()
        embeds = torch.zeros(1, queries, sizes.width, dtype=torch.float32)
        self.query_embeds = nn.Parameter(embeds)
        self.layers = nn.ModuleList(
            AbstractorLayer(sizes, queries, tokens) for _ in range(sizes.layers)
        )
        self.visual_fc = nn.Linear(sizes.width, width)
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, width, dtype=torch.float32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map image tokens (B, L, width) to tokens of the language model (B, Q + 1, width)."""
        queries = self.query_embeds.expand(len(tokens), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return torch.cat([self.visual_fc(queries), self.vit_eos.expand(len(tokens), -1, -1)], 1)


class ByModality(nn.Module):
    """Apply a module to the text of each prompt and another to its image tokens.

    Args:
        text: maps states of text.
        image: maps states of image tokens.
        span: start and stop of the image tokens, the same in every prompt.

    >>> ByModality(nn.Identity(), nn.Linear(4, 4), (1, 3))(torch.zeros(2, 5, 4)).shape
    torch.Size([2, 5, 4])
    """

    def __init__(self, text: nn.Module, image: nn.Module, span: tuple[int, int]) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, image])
        self.span = span

    def forward(self, states: Tensor) -> Tensor:
        """Map states (B, L, width)."""
        (start, stop), (text, image) = self.span, self.multiway
        parts = text(states[:, :start]), image(states[:, start:stop]), text(states[:, stop:])
        return torch.cat(parts, dim=1)


class MplugOwl2(nn.Module):
    """Read a prompt with one image.

    Args:
        vision: encodes images.
        abstractor: summarises the tokens of an image.
        config: of LLaMA.
        start: number of tokens before the image.

    >>> from transformers import LlamaConfig
    >>> sizes = TransformerSizes(8, 16, 2, 1)
    >>> config = LlamaConfig(vocab_size=9, hidden_size=12, intermediate_size=8,
    ...                      num_hidden_layers=1, num_attention_heads=2)
    >>> model = MplugOwl2(VisionEncoder(sizes, 28, 14), Abstractor(sizes, 3, 5, 12), config, 2)
    >>> ids = torch.tensor([1, 4, 2])
    >>> model(torch.zeros(1, 3, 28, 28), ids[:2], ids[2:]).shape
    torch.Size([1, 12])
    """

    def __init__(
        self, vision: VisionEncoder, abstractor: Abstractor, config: Any, start: int
    ) -> None:
        super().__init__()
        self.vision_model, self.visual_abstractor = vision, abstractor
        self.language_model = LlamaModel(config)
        span = start, start + abstractor.query_embeds.shape[1] + 1
        for layer in self.language_model.layers:
            attention: Any = layer.self_attn
            for owner, names in (
                (attention, ("k_proj", "v_proj")),
                (layer, ("input_layernorm", "post_attention_layernorm")),
            ):
                for name in names:
                    module = getattr(owner, name)
                    setattr(owner, name, ByModality(module, copy.deepcopy(module), span))

    def forward(self, pixels: Tensor, prefix: Tensor, suffix: Tensor) -> Tensor:
        """Return the states (B, width) of the last token of prompts about images.

        Args:
            pixels: (B, 3, H, W).
            prefix: token ids (L,) before the image.
            suffix: token ids (S,) after it.
        """
        image = self.visual_abstractor(self.vision_model(pixels))
        embed = self.language_model.embed_tokens
        before, after = (embed(ids).expand(len(pixels), -1, -1) for ids in (prefix, suffix))
        rows = torch.cat([before, image, after], dim=1)
        states: Tensor = self.language_model(inputs_embeds=rows, use_cache=False).last_hidden_state
        return states[:, -1]


def plain_name(name: str) -> str:
    """Return the name of a published weight in `MplugOwl2`.

    >>> plain_name("model.layers.0.self_attn.k_proj.multiway.1.weight")
    'language_model.layers.0.self_attn.k_proj.multiway.1.weight'
    >>> plain_name("model.visual_abstractor.encoder.layers.0.crossattention.output.norm2.bias")
    'visual_abstractor.layers.0.norm2.bias'
    """
    name = name.removeprefix("model.")
    if not name.startswith(("vision_model.", "visual_abstractor.")):
        return f"language_model.{name}"
    for part in ("embeddings", "encoder", "self_attn", "crossattention", "attention", "output"):
        name = name.replace(f".{part}.", ".")
    return name
