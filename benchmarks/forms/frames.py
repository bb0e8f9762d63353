"""Benchmarks of videos: a video has the mean score of its frames, or is read whole.

An item's images are the frames of its videos. `labels["frames"]` holds, for each video, which of
them are its frames; a frame may be named more than once, as where the last one fills up a short
video. A video with a missing frame score has none. A video that is read whole is one image, and
its score is that one's; only models that are shown videos have one.

Frames come from the videos (ROOT/Gen2/00000.mp4), or from files that were taken out of them before:

    ffmpeg -i Gen2/00000.mp4 -q:v 2 -start_number 0 frames/Gen2/video_00000_frame_%04d.jpg

What is read whole is the video; where there are such files alone, all of them in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from t2v_eval.errors import BenchmarkDataError, InputError, MediaError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.inputs.media import MediaLike, Video
from t2v_eval.inputs.video import frames
from t2v_eval.stats.bootstrap import Statistic

FRAMES = 36
RATE = 8.0  # frames of a second, which files of frames do not say


class FramesForm(Benchmark):
    """Put before another form: that form's metrics, of the means over frames of each video.

    Args:
        whole: whether a video is read whole, as one image of its item.
    """

    def __init__(self, *, whole: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(whole, bool):
            raise InputError(f"whole={whole!r}: use true or false")
        self.whole = whole
        if whole:
            said = f"{self.card.summary}; here each video is read whole instead"
            self.card = replace(self.card, summary=said)

    def rated_units(self, item: Item) -> Sequence[Sequence[int]]:
        found: Sequence[Sequence[int]] = item.labels["frames"]
        return found

    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        videos = [
            np.stack([one[of].mean(axis=0) for of in self.rated_units(item)])
            for item, one in zip(items, scores, strict=True)
        ]
        return super().statistic(items, videos)


def first_frames(folder: Path, generator: str, name: str, whole: bool = False) -> list[MediaLike]:
    """The first 36 frames of a video, or the video; of what is missing, the path alone.

    Frames that are files are taken where there are any. Those of a video are rounded as JPEG files
    are, which published figures were made from.

    Args:
        whole: the video itself; where it is not there, one of all frames that are files, of which
            8 are assumed to be a second.

    Raises:
        BenchmarkDataError: a video cannot be read.
    """
    path = folder / generator / f"{name}.mp4"
    start = folder / "frames" / generator / f"video_{name}_frame_"
    last = max((path.name for path in start.parent.glob(f"{start.name}????.jpg")), default="")
    if last and not (whole and path.is_file()):
        count = int(last[-8:-4]) + 1
        found = [f"{start}{k:04}.jpg" for k in range(count if whole else min(count, FRAMES))]
        if lost := next((one for one in found if not Path(one).is_file()), None):
            return [lost]  # which is told as missing where all items are looked at
        return [Video.of(found, RATE, f"{start}*.jpg")] if whole else [*found]
    return video_frames(path, FRAMES, "first", jpeg=True, whole=whole)


def video_frames(
    path: Path, most: int, choose: str, *, jpeg: bool = False, whole: bool = False
) -> list[MediaLike]:
    """Frames of a video of a benchmark, or the video; of one that is missing, its path alone.

    Raises:
        BenchmarkDataError: a file that is no video, or none that can be read.
    """
    if not path.is_file():
        return [str(path)]  # which is told as missing where all items are looked at
    try:
        found = frames(path, most, choose, jpeg=jpeg)
        return [str(path)] if whole else [*found]
    except MediaError as error:
        raise BenchmarkDataError(str(error)) from error


def item_of(
    videos: Sequence[Sequence[MediaLike]],
    text: str,
    human: Sequence[float],
    tags: Sequence[str],
    name: str,
) -> Item:
    """An item of the videos of one text; the last frame fills up what is short of 36.

    A video that is read whole, or has a single frame, needs no filling up.
    """
    images: list[MediaLike] = []
    positions = []
    for video in videos:
        own = list(range(len(images), len(images) + len(video)))
        positions.append(own + own[-1:] * (FRAMES - len(own) if len(own) > 1 else 0))
        images += video
    return Item(
        images=images,
        texts=[text],
        labels={"human": list(human), "frames": positions},
        tags=tuple(tags),
        id=name,
    )
