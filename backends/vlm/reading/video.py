"""How a vision-language model is shown a video: resized frames, and what is said of them.

As one video, where a model has a place for that, or as several pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from t2v_eval.errors import InputError
from t2v_eval.inputs.video import Clip

from ...common.images import smart_size

TWO = 2  # frames that Qwen's models take for one, which share a limit of pixels


@dataclass(frozen=True)
class MediaInputs:
    """What stands before a question, as inputs of the model; `frames` is 0 for a picture.

    `lead` is text that follows, before the question's own.
    """

    row: dict[str, Tensor]
    lead: str = ""
    frames: int = 0


@dataclass(frozen=True)
class VideoSettings:
    """How the frames that were taken of a video are shown.

    Args:
        pixels: each frame has at least the first number and at most the second, in sides that the
            model's patches fill, and two frames together at most their share of the third; as
            qwen_vl_utils. The model's own processor resizes where this is not given.
        as_pictures: whether frames are pictures in a row also where a model has a place for videos.
        caption: what stands before each of such pictures, with `{seconds}` and `{number}`.
        lead: what stands before the question, with `{count}`, `{seconds}` and `{times}`.
        processor: settings of the model's video processor; all others are taken for such.
    """

    pixels: tuple[int, int, int] | None = None
    as_pictures: bool = False
    caption: str = ""
    lead: str = ""
    processor: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> VideoSettings:
        """Settings as a card or a user gives them, all on one level.

        Raises:
            InputError: something that cannot be set.
        """
        said = f"video_settings={given!r}"
        if not isinstance(given, Mapping):
            raise InputError(f'{said}: use a table such as {{"as_pictures": True}}')
        own = {f.name for f in fields(cls)} - {"processor"}
        rest = {name: value for name, value in given.items() if name not in own}
        made = cls(**{k: v for k, v in given.items() if k in own}, processor=rest)
        limits = made.pixels
        if limits is not None and not (
            isinstance(limits, Sequence)
            and [type(n) is int and n > 0 for n in limits] == [True] * 3
        ):
            raise InputError(f"{said}: pixels are three whole numbers of 1 or more")
        if type(made.as_pictures) is not bool:
            raise InputError(f"{said}: as_pictures is True or False")
        if taken := sorted({"fps", "num_frames", "do_sample_frames", "video_metadata"} & {*rest}):
            raise InputError(f"{said}: {taken[0]} is decided by frames=, so leave it out")
        try:
            clip = Clip([], [0], 1, 1.0)
            made.captions(clip), made.leading(clip)
        except Exception as error:  # whatever `format` makes of a text, or of something else
            raise InputError(f"{said}: caption and lead cannot be filled: {error}") from error
        return made

    @property
    def in_pictures(self) -> bool:
        """Whether frames are shown as pictures, whatever the model has a place for."""
        return self.as_pictures or bool(self.caption)

    def captions(self, clip: Clip) -> list[str]:
        """What stands before each frame that is a picture."""
        times = enumerate(clip.times, 1)
        return [self.caption.format(number=n, seconds=round(time, 2)) for n, time in times]

    def leading(self, clip: Clip) -> str:
        """What stands before the question."""
        times = ",".join(f"{time:.2f}s" for time in clip.times)
        return self.lead.format(count=len(clip.places), seconds=clip.seconds, times=times)

    def fit(self, frame: Image.Image, count: int, side: int) -> Image.Image:
        """One of so many frames, resized where that is not left to the processor.

        As torchvision resizes tensors, which qwen_vl_utils does, to whole numbers again.
        """
        if self.pixels is None:
            return frame
        colours = torch.from_numpy(np.array(frame.convert("RGB"))).movedim(2, 0)[None].float()
        size = smart_size(*frame.size[::-1], side, *self.share(count))
        made = interpolate(colours, size, mode="bicubic", antialias=True)[0].round().clamp(0, 255)
        return Image.fromarray(made.movedim(0, 2).to(torch.uint8).numpy())

    def share(self, count: int) -> tuple[int, float]:
        """At least and at most how many pixels a frame has, of so many."""
        least, most, total = self.pixels or (0, 0, 0)
        return least, max(min(most, total * TWO / count), int(least * 1.05))


def at_least(clip: Clip, count: int) -> Clip:
    """The clip, with its last frame again where it has fewer: a model reads so many as one."""
    more = max(0, count - len(clip.frames))
    frames, places = clip.frames + clip.frames[-1:] * more, clip.places + clip.places[-1:] * more
    return clip._replace(frames=frames, places=places)


def pixels_of(clip: Clip) -> Tensor:
    """The frames as one tensor (T, 3, H, W), 0 to 255.

    Raises:
        ValueError: they differ in size.
    """
    if len(sizes := {frame.size for frame in clip.frames}) > 1:
        raise ValueError(f"its frames have several sizes, {sorted(sizes)}: make them of one")
    frames = [np.asarray(frame.convert("RGB")) for frame in clip.frames]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
