"""Frames of videos resized by Pillow, as readers of videos do that are not in transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers.video_processing_utils import BaseVideoProcessor


class ByPillow(BaseVideoProcessor):
    """Bicubic; torchvision's pixels are others where one side grows and the other shrinks."""

    def resize(self, image: Tensor, size: Any, *_: Any, **__: Any) -> Tensor:
        """(..., 3, H, W), whole numbers of 0 to 255."""
        frames = [Image.fromarray(one) for one in image.flatten(0, -4).movedim(1, -1).numpy()]
        wanted = size.width, size.height
        made = [np.asarray(frame.resize(wanted, Image.Resampling.BICUBIC)) for frame in frames]
        whole = torch.from_numpy(np.stack(made)).movedim(-1, 1)
        return whole.reshape(*image.shape[:-2], size.height, size.width)
