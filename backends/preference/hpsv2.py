"""Human Preference Score v2 and v2.1: learnt from people's choices among images.

Wu et al. 2023, "Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of
Text-to-Image Synthesis", section 4: OpenCLIP's ViT-H/14, fine-tuned; the score is the cosine. As in
the authors' code the image is not cropped but resized and padded with black to a square.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad
from typing_extensions import override

from ..clip.open_clip import OpenClip
from ..clip.open_clip_internals import image_size_of
from ..common.images import normalise


class HpsV2(OpenClip):
    """Score the cosine of image and text under a CLIP fine-tuned on preferences, v2.0; -1 to 1.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    >>> HpsV2.published, HpsV2.weights
    (('ViT-H-14', None), ('HPS_v2_compressed.pt',))
    """

    published = ("ViT-H-14", None)
    weights = ("HPS_v2_compressed.pt",)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize the long side to the network's input size, antialiased, and pad with black.

        The authors' code fails on four channels, and on images that need padding but no resizing;
        here alpha is dropped, and such images are padded.
        """
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
        return self.preprocess_tensor(pixels[None])[0]

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        side, _ = image_size_of(self.network)
        scale = side / max(pixels.shape[2:])
        height, width = (max(1, round(length * scale)) for length in pixels.shape[2:])
        if scale != 1:
            pixels = interpolate(pixels, (height, width), mode="bicubic", antialias=True)
        y, x = (side - height) // 2, (side - width) // 2
        return normalise(pad(pixels, (x, side - width - x, y, side - height - y)))


class HpsV21(HpsV2):
    """Score as `HpsV2`, with the weights v2.1.

    Args:
        checkpoint: as `OpenClip`.
        arch: as `OpenClip`.
        pretrained: as `OpenClip`.

    >>> HpsV21.weights
    ('HPS_v2.1_compressed.pt',)
    """

    weights = ("HPS_v2.1_compressed.pt",)
