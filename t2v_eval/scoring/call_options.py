"""What a call may set for itself: templates, and which frames of videos are read."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self, TypeVar

from t2v_eval.errors import InputError
from t2v_eval.inputs.video import Sampling
from t2v_eval.utils.arguments import unknown_argument

TEMPLATES = ("question_template", "answer_template", "template")
FRAMES = ("fps", "num_frames")
CALL = ("images", "texts", "references", "progress", *TEMPLATES, *FRAMES)
AnyScorer = TypeVar("AnyScorer")


class FrameReader:
    """A scorer that reads several frames of a video together; a base class beside `Scorer`.

    >>> hasattr(FrameReader, "with_frames")
    True
    """

    @property
    @abstractmethod
    def frame_sampling(self) -> Sampling:
        """Which frames of a video are read."""

    @abstractmethod
    def read_frames(self, sampling: Sampling) -> None:
        """Read these frames of a video from now on, and say so in the id.

        Raises:
            InputError: the model cannot read them.
        """

    def with_frames(self, fps: float | None = None, num_frames: int | None = None) -> Self:
        """Return a copy that reads other frames of videos, which shares the weights.

        What else decides the frames, such as the most of them, stays as it is.

        Args:
            fps: frames per second.
            num_frames: number of frames of a video.

        Raises:
            InputError: both are given, a value out of range, or frames that the model cannot read.
        """
        sampling = change_sampling(self.frame_sampling, fps, num_frames)
        if sampling == self.frame_sampling:
            return self
        scorer: Any = self
        bound = scorer.with_template()
        bound.read_frames(sampling)
        return bound  # type: ignore[no-any-return]


def change_sampling(sampling: Sampling, fps: Any = None, num_frames: Any = None) -> Sampling:
    """Return a sampling with another number of frames, in all or per second.

    Args:
        sampling: what stays as it is, such as the most frames and which of equal parts are read.
        fps: frames per second; None where `num_frames` is given, or nothing changes.
        num_frames: number of frames of a video.

    Raises:
        InputError: both are given, or a value is out of range.

    >>> change_sampling(Sampling(fps=8.0, most=64), num_frames=4)
    Sampling(count=4, fps=None, least=1, most=64, multiple=1, choose='uniform', fill=0)
    """
    if fps is not None and num_frames is not None:
        raise InputError(f"`fps={fps!r}` and `num_frames={num_frames!r}`: pass one of them")
    if num_frames is not None:
        if type(num_frames) is not int or num_frames < 1:
            raise InputError(f"`num_frames={num_frames!r}`: use a whole number of 1 or more")
        return sampling.with_count(num_frames)
    if fps is not None:
        if type(fps) not in (int, float) or not 0 < fps < math.inf:
            more = "; 'dynamic' of t2v_metrics is `fps=2.0`" if fps == "dynamic" else ""
            raise InputError(f"`fps={fps!r}`: use a number of frames per second above 0{more}")
        return sampling.with_rate(float(fps))
    return sampling


def bind_call(scorer: AnyScorer, options: Mapping[str, Any]) -> AnyScorer:
    """Return a copy of a scorer with the options of a call.

    Args:
        scorer: the scorer.
        options: templates, and `fps` or `num_frames`, by name.

    Raises:
        InputError: another name, or frames that the scorer cannot read.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> bind_call(scorer, {"question_template": "a photo of {}"}).template.question
    'a photo of {}'
    """
    caller: Any = scorer
    if unknown := set(options) - {*TEMPLATES, *FRAMES}:
        raise InputError(unknown_argument(f"a call of {caller.name!r}", min(unknown), CALL))
    templates = {name: value for name, value in options.items() if name in TEMPLATES}
    bound: AnyScorer = caller.with_template(**templates)
    frames = {name: options[name] for name in FRAMES if options.get(name) is not None}
    if not frames:
        return bound
    if not isinstance(bound, FrameReader):
        raise InputError(
            f"a call of {caller.name!r} takes no `{min(frames)}=`: it chooses no frames of a "
            "video; `t2v_eval.inputs.video.frames` returns some as images"
        )
    return bound.with_frames(**frames)
