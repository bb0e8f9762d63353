"""Which frames of a video a vision-language model reads, in all calls or in one."""

from __future__ import annotations

import copy

from PIL import Image
from typing_extensions import override

from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.animation import animation
from t2v_eval.inputs.media import ImageGroup, Media, Video
from t2v_eval.inputs.video import Clip, Sampling, clip
from t2v_eval.local.base import LocalScorer
from t2v_eval.scoring.call_options import FrameReader

from .prompting.builders import PromptBuilder


class PromptFrames(FrameReader, LocalScorer):
    """A scorer whose prompts hold the frames of a video, if its model takes any.

    Attributes:
        prompt_builder: how prompts are built, with the sampling of frames.

    >>> PromptFrames.load is LocalScorer.load
    False
    """

    prompt_builder: PromptBuilder

    @property
    @override
    def frame_sampling(self) -> Sampling:
        sampling: Sampling | None = self.prompt_builder.sampling
        if sampling is None:
            raise InputError(
                f"{self.name!r} takes no videos: {self.prompt_builder.no_video_reason}"
            )
        return sampling

    @override
    def read_frames(self, sampling: Sampling) -> None:
        self.prompt_builder = copy.copy(self.prompt_builder)
        self.prompt_builder.sampling = sampling
        self.identity_facts = {**self.identity_facts, "frames": repr(sampling)}

    @override
    def state_key(self, media: Media) -> str:
        if media.shared:  # an image that is an object of the caller
            return media.key
        return f"{media.key} {self.prompt_builder.sampling}"  # the file of an image may be animated

    @override
    def load(self, media: Media) -> Image.Image | Clip | list[Image.Image]:
        if isinstance(media, ImageGroup):
            return [self.load_image(image) for image in media.images]
        builder = self.prompt_builder
        if builder.sampling is None:
            if not isinstance(media, Video):
                return self.load_image(media)
            raise MediaError(
                f"{media.name}: is a video, and this model takes none: {builder.no_video_reason}. "
                "Score frames of it, `t2v_eval.inputs.video.frames(path, 16)`, and take the mean"
            )
        video = media if isinstance(media, Video) else animation(media)
        if video is None:
            return self.load_image(media)
        return clip(video, builder.sampling, self.load_image, builder.resize_frame)
