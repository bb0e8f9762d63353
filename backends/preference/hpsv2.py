"""Human Preference Score v2 and v2.1: what people prefer, learnt from choices among images.

Wu et al. 2023, "Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of
Text-to-Image Synthesis", section 4: OpenCLIP's ViT-H/14, fine-tuned; the score is the cosine. The
whole image is seen: as in the authors' code it is resized, not cropped, and padded with black.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from ..clip.open_clip import OpenClip
from ..clip.open_clip_internals import image_size_of
from ..common.images import normalise


class HpsV2(OpenClip):
    """Cosine of image and text under a CLIP that was taught what people prefer, v2.0.

    Args: as `OpenClip`.
    """

    published = ("ViT-H-14", None)
    weights = ("HPS_v2_compressed.pt",)

    def preprocess(self, image: Image.Image) -> Tensor:
        """The long side made as long as the network sees, antialiased, and the rest black.

        The authors' code fails where there are four channels, and where nothing needs resizing but
        something needs padding; here the former lose their alpha and the latter is padded.
        """
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
        return self.preprocess_tensor(pixels[None])[0]

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        side, _ = image_size_of(self.network)
        scale = side / max(pixels.shape[2:])
        height, width = (max(1, round(length * scale)) for length in pixels.shape[2:])
        if scale != 1:
            pixels = interpolate(pixels, (height, width), mode="bicubic", antialias=True)
        top, left = (side - height) // 2, (side - width) // 2
        bottom, right = side - height - top, side - width - left
        return normalise(pad(pixels, (left, right, top, bottom)))


class HpsV21(HpsV2):
    """The same, v2.1.

    Args: as `OpenClip`.
    """

    weights = ("HPS_v2.1_compressed.pt",)
