"""The test set of Human Preference Dataset v2 (Wu et al. 2023): 400 prompts, nine images or ten.

    https://huggingface.co/datasets/ymhao/HPDv2
    ROOT/test.json       [{"prompt", "image_path": [image, ...], "rank": [...]}]
    ROOT/test/...jpg     the images, here or in ROOT

`rank` is the mean of the annotators' ranks, the lowest the best. `ranking`, as published, is
the mean over prompts of the share of pairs that scores do not order the other way.
"""

from __future__ import annotations

from .forms.preference import RankedForm


class HPDv2(RankedForm):
    """The prompts of the published file in `root`."""

    headline = "ranking"
    keys = ("image_path", "rank")
    folders = ("test", ".")
