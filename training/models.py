"""The networks, built from transformers' classes so that trained weights load unchanged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)
from transformers.modeling_outputs import BaseModelOutput

from .data import GRID, PATCH, PATCH_CLASSES
from .tokenizers import MAX_CAPTION

WIDTH = 128
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": GRID * PATCH,
    "patch_size": PATCH,
    "hidden_act": "gelu",
    "projection_dim": WIDTH,
}
SELECT_LAYER = -2  # LLaVA's choice, and so CLIP-FlanT5's
PROMPT = "USER: <image>\n{} ASSISTANT: "


class PatchHeads(nn.Module):
    """Linear probes on the tower's patches, trained with it and not exported."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({k: nn.Linear(WIDTH, n) for k, n in PATCH_CLASSES.items()})

    def loss(self, patches: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Return the sum of the cross-entropies of all probes.

        Args:
            patches: (N, patches, width).
            targets: (N, patches) class indices of each probe; -100 is left out.
        """
        losses = [
            functional.cross_entropy(head(patches).float().flatten(0, 1), targets[name].flatten())
            for name, head in self.heads.items()
        ]
        return torch.stack(losses).sum()


def build_tower() -> CLIPVisionModel:
    """Build the vision tower with random weights."""
    return CLIPVisionModel(CLIPVisionConfig(**TOWER))


def patches(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """Return the tower's patches (N, patches, width) at `SELECT_LAYER` of pixels (N, 3, H, W)."""
    hidden: Tensor = tower(pixels, output_hidden_states=True).hidden_states[SELECT_LAYER]
    return hidden[:, 1:]


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build a CLIP with random weights whose text tower has the tokenizer's vocabulary."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_CAPTION,
        hidden_act="gelu",
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=TOWER, projection_dim=WIDTH)
    )


def embed_images(clip: CLIPModel, pixels: Tensor) -> Tensor:
    """Return the normalised embeddings (N, width) of pixels (N, 3, H, W)."""
    pooled = clip.vision_model(pixel_values=pixels).pooler_output
    return functional.normalize(clip.visual_projection(pooled).float(), dim=-1)


def embed_texts(clip: CLIPModel, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Return the normalised embeddings (N, width) of N texts."""
    tokens = tokenizer(
        list(texts), padding=True, truncation=True, max_length=MAX_CAPTION, return_tensors="pt"
    )
    pooled = clip.text_model(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
    ).pooler_output
    return functional.normalize(clip.text_projection(pooled).float(), dim=-1)


class ClipT5(nn.Module):
    """CLIP-FlanT5: patches of the tower's last but one layer, projected into T5's encoder.

    Args:
        tokenizer: of T5.
    """

    def __init__(self, tokenizer: T5Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.vision_tower = build_tower()
        self.mm_projector = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH)
        )
        self.t5 = T5ForConditionalGeneration(t5_config(tokenizer))
        _fuse_gelu(self.t5)
        _look_at_neighbours(self.t5)
        self._encoded: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Return token ids with the end token, cached since few texts occur very often."""
        if text not in self._encoded:
            if len(self._encoded) > 200_000:
                self._encoded.clear()
            self._encoded[text] = self.tokenizer(text).input_ids
        return self._encoded[text]

    def encode_vision(self, pixels: Tensor) -> Tensor:
        """Return the tower's patches (N, patches, width) of pixels (N, 3, H, W)."""
        return patches(self.vision_tower, pixels)

    def encode(
        self, features: Tensor, image_index: Sequence[int], questions: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Encode questions together with their images.

        Args:
            features: patches (N, patches, width) of N images.
            image_index: the image of each question.
            questions: as many as `image_index`.

        Returns:
            The encoder states (Q, L, width) and their mask (Q, L).
        """
        before, _, after = PROMPT.partition("<image>")
        head = torch.tensor(self.tokens(before))
        tail, mask = self._pad([self.tokens(after.format(question)) for question in questions])
        embed = self.t5.shared
        rows = len(questions)
        states = torch.cat(
            [
                embed(head).expand(rows, -1, -1),
                self.mm_projector(features).float()[torch.tensor(image_index)],
                embed(tail),
            ],
            dim=1,
        )
        mask = torch.cat([torch.ones(rows, states.shape[1] - mask.shape[1]).long(), mask], dim=1)
        encoded = self.t5.encoder(inputs_embeds=states, attention_mask=mask)
        return encoded.last_hidden_state, mask

    def image_states(self, states: Tensor) -> Tensor:
        """Return the encoder states (N, patches, width) at the positions of the image."""
        first = len(self.tokens(PROMPT.partition("<image>")[0]))
        return states[:, first : first + GRID * GRID]

    def answer_log_likelihood(
        self, states: Tensor, mask: Tensor, answers: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Return the log-likelihood (N,) of each answer with its end token, and its token count."""
        labels, real = self._pad([self.tokens(answer) for answer in answers])
        logits = self.t5(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            attention_mask=mask,
            labels=labels.masked_fill(real == 0, -100),
        ).logits
        log_p = logits.float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        return (log_p * real).sum(1), real.sum(1)

    @staticmethod
    def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Pad to ids and mask; widths are rounded up, as each new shape costs a compilation."""
        width = 8 * math.ceil(max(map(len, rows)) / 8)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])


def t5_config(tokenizer: T5Tokenizer) -> T5Config:
    """Return the configuration of T5 for the vocabulary of a tokenizer."""
    return T5Config(  # type: ignore[call-arg]
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        d_kv=32,
        num_heads=4,
        d_ff=256,
        num_layers=3,
        num_decoder_layers=2,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=True,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


def _fuse_gelu(t5: T5ForConditionalGeneration) -> None:
    """Replace T5's tanh GELU, seven passes over memory, by torch's fused equivalent."""
    for module in t5.modules():
        if hasattr(module, "act") and hasattr(module, "wi_0"):
            module.act = nn.GELU(approximate="tanh")


def _look_at_neighbours(t5: T5ForConditionalGeneration) -> None:
    """Initialise one encoder head to attend to the previous token and one to the next.

    T5 encodes order only in its relative position bias. From its small initial values a small T5
    does not learn word order within this training; bucket 1 is one token back, 17 one on.
    """
    name = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = t5.encoder.get_parameter(name)
    with torch.no_grad():
        bias[1, 0] += 6
        bias[17, 1] += 6
