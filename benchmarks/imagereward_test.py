"""The test set of ImageRewardDB (Xu et al. 2023): 466 prompts, 4 to 9 ranked images each.

    https://huggingface.co/datasets/THUDM/ImageRewardDB    and github.com/THUDM/ImageReward, data
    ROOT/test.json         [{"id", "prompt", "generations": [image, ...], "ranking": [1, ...]}]
    ROOT/part-.../...      the images by the names in `generations`, here or in ROOT/images

1 is the best rank. Pairs of one rank do not count: 6,399 of 7,230 pairs are left, and `accuracy`
over them is the published figure.
"""

from __future__ import annotations

from .forms.preference import RankedForm


class ImageRewardTest(RankedForm):
    """The prompts of the published file in `root`."""

    keys = ("generations", "ranking")
    folders = (".", "images")
