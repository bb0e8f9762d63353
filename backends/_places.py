"""Where text stands after a video in Qwen2-VL and Qwen2.5-VL, whose tokens have three places each.

A video's are counted in time, height and width, and text goes on behind the largest of them, as the
authors have it (Wang et al. 2024, Qwen2-VL, section 2.1) and transformers had it up to 5.2. It has
counted on from height and width alone since, so that text after many frames stands amidst them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLModel, Qwen2VLModel

PLACED: Any = (Qwen2VLModel, Qwen2_5_VLModel)


def put_text_behind_videos(model: Any) -> None:
    """Let a model of these classes do so; others are left as they are."""
    if not isinstance(model, PLACED):
        return
    theirs = model.get_rope_index

    def get_rope_index(
        input_ids: Tensor,
        mm_token_type_ids: Tensor,
        *args: Any,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        mask = attention_mask
        places, _ = theirs(input_ids, mm_token_type_ids, *args, attention_mask=mask, **options)
        for row, kinds in enumerate(mm_token_type_ids):
            texts = (kinds[1:] == 0) & (kinds[:-1] != 0)  # each begins one further on
            for start in (texts.nonzero()[:, 0] + 1).tolist():
                behind = places[:, row, :start].max() + 1
                places[:, row, start:] += behind - places[0, row, start]
        used = torch.ones_like(input_ids) if mask is None else mask
        last = (places * used).amax((0, 2))
        return places, (last + 1 - used.sum(1))[:, None]

    model.get_rope_index = get_rope_index
