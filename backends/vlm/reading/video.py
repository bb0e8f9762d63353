"""Videos as inputs of a vision-language model: resized frames, and the text that goes with them.

Frames are one video where the model has a place for videos, and several images elsewhere.
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

FRAMES_PER_PATCH = 2  # Qwen's models merge two frames, which share a limit of pixels
SAMPLING_OPTIONS = {"fps", "num_frames", "do_sample_frames", "video_metadata"}


@dataclass(frozen=True)
class MediaInputs:
    """The inputs of the model up to the question, for an image, a video or several images.

    Args:
        row: all inputs, `input_ids` (1, L) among them.
        lead: text between them and the question.
        frames: the number of frames of a video; 0 for images.
        images: the number of images.

    >>> MediaInputs({"input_ids": torch.tensor([[5, 6]])}).frames
    0
    """

    row: dict[str, Tensor]
    lead: str = ""
    frames: int = 0
    images: int = 1


@dataclass(frozen=True)
class VideoSettings:
    """How the sampled frames of a video are turned into inputs.

    Args:
        pixels: the least and the most pixels of a frame, and the total of all frames, of which two
            frames get at most their share; sides are multiples of the model's patches, as in
            qwen_vl_utils. Left out, the model's own processor resizes.
        as_pictures: whether frames are several images also where the model has a place for videos.
        caption: text before each of these images, with `{seconds}` and `{number}`.
        lead: text before the question, with `{count}`, `{seconds}` and `{times}`.
        processor: settings of the model's video processor: all other keys.

    >>> VideoSettings(caption="Frame {number}: ").frame_captions(Clip([], [0, 8], 16, 8.0))
    ['Frame 1: ', 'Frame 2: ']
    """

    pixels: tuple[int, int, int] | None = None
    as_pictures: bool = False
    caption: str = ""
    lead: str = ""
    processor: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> VideoSettings:
        """Parse the settings of a card or a user, which are all on one level.

        Args:
            settings: the fields of this class but `processor`, and settings of the video processor.

        Raises:
            InputError: a value of the wrong kind, or a setting that `frames=` decides.

        >>> VideoSettings.from_mapping({"as_pictures": True, "do_resize": False}).processor
        {'do_resize': False}
        """
        source = f"`video_settings={settings!r}`"
        if not isinstance(settings, Mapping):
            raise InputError(f'{source}: use a table such as {{"as_pictures": True}}')
        names = {f.name for f in fields(cls)} - {"processor"}
        others = {name: value for name, value in settings.items() if name not in names}
        parsed = cls(**{k: v for k, v in settings.items() if k in names}, processor=others)
        limits = parsed.pixels
        if limits is not None and not (
            isinstance(limits, Sequence)
            and [type(n) is int and n > 0 for n in limits] == [True] * 3
        ):
            raise InputError(f"{source}: pixels are three whole numbers of 1 or more")
        if type(parsed.as_pictures) is not bool:
            raise InputError(f"{source}: as_pictures is True or False")
        if reserved := sorted(SAMPLING_OPTIONS & {*others}):
            raise InputError(f"{source}: {reserved[0]} is decided by `frames=`, so leave it out")
        try:
            clip = Clip([], [0], 1, 1.0)
            parsed.frame_captions(clip), parsed.lead_text(clip)
        except Exception as error:  # `format` raises many kinds, and the value may be of any type
            raise InputError(f"{source}: caption and lead cannot be filled: {error}") from error
        return parsed

    @property
    def frames_are_images(self) -> bool:
        """Whether frames are several images, even where the model has a place for videos."""
        return self.as_pictures or bool(self.caption)

    def frame_captions(self, clip: Clip) -> list[str]:
        """Return the text before each frame that is an image of its own.

        >>> clip = Clip([], [0, 8], 16, 8.0)
        >>> VideoSettings(caption="At {seconds} s: ").frame_captions(clip)
        ['At 0.0 s: ', 'At 1.0 s: ']
        """
        times = enumerate(clip.times, 1)
        return [self.caption.format(number=n, seconds=round(time, 2)) for n, time in times]

    def lead_text(self, clip: Clip) -> str:
        """Return the text before the question.

        >>> VideoSettings(lead="{count} frames at {times}.").lead_text(Clip([], [0, 8], 16, 8.0))
        '2 frames at 0.00s,1.00s.'
        """
        times = ",".join(f"{time:.2f}s" for time in clip.times)
        return self.lead.format(count=len(clip.places), seconds=clip.seconds, times=times)

    def resize_frame(self, frame: Image.Image, count: int, side: int) -> Image.Image:
        """Resize one of `count` frames within `pixels` to multiples of `side`.

        As torchvision resizes tensors, which qwen_vl_utils does, rounded to whole numbers again.

        >>> settings = VideoSettings(pixels=(16, 64, 10**6))
        >>> settings.resize_frame(Image.new("RGB", (40, 20)), count=2, side=2).size
        (10, 4)
        """
        if self.pixels is None:
            return frame
        pixels = torch.from_numpy(np.array(frame.convert("RGB"))).movedim(2, 0)[None].float()
        size = smart_size(*frame.size[::-1], side, *self.frame_pixels(count))
        resized = interpolate(pixels, size, mode="bicubic", antialias=True)[0].round().clamp(0, 255)
        return Image.fromarray(resized.movedim(0, 2).to(torch.uint8).numpy())

    def frame_pixels(self, count: int) -> tuple[int, float]:
        """Return the least and the most pixels of each of `count` frames.

        >>> VideoSettings(pixels=(100, 1000, 2000)).frame_pixels(8)
        (100, 500.0)
        """
        lower, upper, total = self.pixels or (0, 0, 0)
        return lower, max(min(upper, total * FRAMES_PER_PATCH / count), int(lower * 1.05))


def pad_clip(clip: Clip, count: int) -> Clip:
    """Return a clip of at least `count` frames, which repeats its last frame.

    >>> pad_clip(Clip([Image.new("RGB", (4, 4))], [0], 1, 1.0), 2).places
    [0, 0]
    """
    lacking = max(0, count - len(clip.frames))
    frames = clip.frames + clip.frames[-1:] * lacking
    return clip._replace(frames=frames, places=clip.places + clip.places[-1:] * lacking)


def stack_frames(clip: Clip) -> Tensor:
    """Return the frames as one tensor (T, 3, H, W), 0 to 255.

    Raises:
        ValueError: the frames differ in size.

    >>> stack_frames(Clip([Image.new("RGB", (4, 2), "white")], [0], 1, 1.0)).shape
    torch.Size([1, 3, 2, 4])
    """
    if len(sizes := {frame.size for frame in clip.frames}) > 1:
        raise ValueError(f"its frames have several sizes, {sorted(sizes)}: resize them to one size")
    frames = [np.asarray(frame.convert("RGB")) for frame in clip.frames]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
