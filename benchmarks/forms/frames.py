"""Benchmarks of videos: a video's score is the mean over its frames, or that of the whole video.

The images of an item are the frames of its videos. `labels["frames"]` holds, for each video, the
indices of its frames; an index may occur more than once, as where the last frame pads a short
video. The score of a video is missing where that of a frame is. A video that is read whole counts
as one image, which only models of videos can score.

Frames are decoded from videos (ROOT/Gen2/00000.mp4), or read from files extracted before:

    ffmpeg -i Gen2/00000.mp4 -q:v 2 -start_number 0 frames/Gen2/video_00000_frame_%04d.jpg

Read whole, a video is its file or, without it, all extracted frames in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, InputError, MediaError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.inputs.media import MediaLike, Video
from t2v_eval.inputs.video import frames
from t2v_eval.stats.bootstrap import Statistic
from t2v_eval.utils.regular_file import is_file

FRAMES = 36
RATE = 8.0  # frames per second assumed for extracted frames


class FramesForm(Benchmark):
    """A mix-in before another form, whose metrics are computed from the mean score of each video.

    Args:
        whole: True scores each video whole, as one image of its item.

    >>> class Mine(FramesForm):
    ...     def items(self):
    ...         return [videos_item([["0.jpg", "1.jpg"], ["2.jpg"]], "a cat", [4, 2], (), "0")]
    ...
    ...     def metrics(self, items, scores):
    ...         return {}
    >>> mine = Mine()
    >>> [len(frames) for frames in mine.rated_units(mine.items()[0])]
    [36, 1]
    """

    def __init__(self, *, whole: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(whole, bool):
            raise InputError(f"`whole={whole!r}`: pass true or false")
        self.whole = whole
        if whole:
            summary = f"{self.card.summary}; here each video is read whole instead"
            self.card = replace(self.card, summary=summary)

    @override
    def rated_units(self, item: Item) -> Sequence[Sequence[int]]:
        frames: Sequence[Sequence[int]] = item.labels["frames"]
        return frames

    @override
    def rated_scores(self, items: Sequence[Item], scores: Scores) -> Scores:
        return [
            np.stack([of_item[frames].mean(axis=0) for frames in self.rated_units(item)])
            for item, of_item in zip(items, scores, strict=True)
        ]

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        return super().statistic(items, self.rated_scores(items, scores))


def generated_video_frames(
    folder: Path, generator: str, name: str, whole: bool = False
) -> list[MediaLike]:
    """Return the first 36 frames of a generated video, or the video; a missing file as its path.

    Extracted frames are preferred. Decoded frames are rounded as JPEG files are, from which the
    published figures were computed.

    Args:
        folder: the root of the benchmark.
        generator: the folder of the generator.
        name: the video's name without suffix.
        whole: return the video itself; without its file, one of all extracted frames at 8 frames
            per second.

    Raises:
        BenchmarkDataError: a video cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # a video that is missing is its path
    ...     [Path(str(path)).name for path in generated_video_frames(Path(folder), "sdxl", "0")]
    ['0.mp4']
    """
    path = folder / generator / f"{name}.mp4"
    start = folder / "frames" / generator / f"video_{name}_frame_"
    last = max((path.name for path in start.parent.glob(f"{start.name}????.jpg")), default="")
    if last and not (whole and path.is_file()):
        count = int(last[-8:-4]) + 1
        paths = [f"{start}{k:04}.jpg" for k in range(count if whole else min(count, FRAMES))]
        if missing := next((path for path in paths if not is_file(path)), None):
            return [missing]  # reported as missing when all items are checked
        return [Video.of(paths, RATE, f"{start}*.jpg")] if whole else [*paths]
    return video_frames(path, FRAMES, "first", jpeg=True, whole=whole)


def video_frames(
    path: Path, max_frames: int, strategy: str, *, jpeg: bool = False, whole: bool = False
) -> list[MediaLike]:
    """Return frames of a video, or with `whole` the video; a missing file as its path.

    Args:
        path: the path of the video.
        max_frames: how many frames at most.
        strategy: "first" or "uniform", as `t2v_eval.inputs.video.frames`.
        jpeg: round frames as JPEG files are.
        whole: return the path of the video, once it has proved readable.

    Raises:
        BenchmarkDataError: the file is not a video that can be read.

    >>> video_frames(Path("missing.mp4"), 16, "uniform")
    ['missing.mp4']
    """
    if not is_file(path):
        return [str(path)]  # reported as missing when all items are checked
    try:
        frame_images = frames(path, max_frames, strategy, jpeg=jpeg)
        return [str(path)] if whole else [*frame_images]
    except MediaError as error:
        raise BenchmarkDataError(str(error)) from error


def videos_item(
    videos: Sequence[Sequence[MediaLike]],
    text: str,
    human: Sequence[float],
    tags: Sequence[str],
    name: str,
    *,
    generators: Sequence[str] = (),
) -> Item:
    """Return an item of the videos of one text; videos shorter than 36 frames repeat the last.

    A video that is read whole, or has a single frame, is not padded.

    >>> item = videos_item([["0.jpg", "1.jpg"], ["2.jpg"]], "a cat", [4, 2], (), "0")
    >>> len(item.images), item.labels["human"]
    (3, [4, 2])
    """
    images: list[MediaLike] = []
    positions = []
    labels: dict[str, Any] = {"human": list(human)}
    for video in videos:
        frames = list(range(len(images), len(images) + len(video)))
        positions.append(frames + frames[-1:] * (FRAMES - len(frames) if len(frames) > 1 else 0))
        images += video
    if generators:  # of each video; the label names that of each frame
        labels["generator"] = [
            name for name, video in zip(generators, videos, strict=True) for _ in video
        ]
    return Item(
        images=images,
        texts=[text],
        labels=labels | {"frames": positions},
        tags=tuple(tags),
        id=name,
    )
