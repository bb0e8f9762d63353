"""VideoGen-RewardBench (Liu et al. 2025): which of two videos of a prompt did annotators prefer?

    https://huggingface.co/datasets/KwaiVGI/VideoGen-RewardBench
    ROOT/videogen-rewardbench.csv    path_A, path_B, prompt; VQ, MQ, TA, Overall: A, B or same
    ROOT/videos/kling1.5/...mp4      the videos by their paths: videos.zip, unpacked

A video's score is the mean over 16 frames, evenly spaced; with `whole` it is that of the video. An
item is a prompt with its videos; ``labels["pairs"]`` holds its pairs as indices of videos, and
``labels["overall"]`` and so on the preferences: 1 for the first, -1 for the second, 0 for a tie.

As in the authors' calc_accuracy.py, ..._without_ties leaves out the pairs that annotators tie, and
..._with_ties has three outcomes: scores no further apart than a threshold are tied, the one with
the highest accuracy (Deutsch et al. 2023, "Ties Matter", algorithm 1). The script also stops
between pairs whose scores are equally far apart, which no threshold can do, so that its value may
be higher where some are; and it always ties the closest pair, so that it may be lower by one pair.

`read_results` reads out_pair.csv of the authors' eval_videogen_rewardbench.py, which holds labels
and the four rewards of each video: reward_VQ_A, reward_VQ_B and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.inputs.media import MediaLike
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate
from t2v_eval.stats.metrics import FloatArray, pairwise_accuracy

from .forms.frames import FramesForm, video_frames
from .forms.published import Published, number, rows

FRAMES = 16
ASPECTS = {"overall": "Overall", "vq": "VQ", "mq": "MQ", "ta": "TA"}
PREFERENCES = {"A": 1, "same": 0, "B": -1}
SIDES = ("A", "B")
_WHAT = {"overall": "overall", "vq": "visual quality", "mq": "motion", "ta": "text alignment"}


class VideoPairsForm(Benchmark):
    """Videos of a prompt in pairs, preferred in several respects.

    Scores are one for each video, or one for each video and aspect: overall, visual quality (vq),
    motion quality (mq) and text alignment (ta).

    >>> labels = {"pairs": [[0, 1], [0, 2]], **{name: [1, 0] for name in ASPECTS}}
    >>> class Mine(VideoPairsForm):
    ...     def items(self):
    ...         return [Item(["0.mp4", "1.mp4", "2.mp4"], ["a cat"], labels)]
    >>> mine = Mine()
    >>> metrics = mine.metrics(mine.items(), [np.array([[3.0], [1.0], [2.5]])])
    >>> metrics["overall_without_ties"], metrics["overall_with_ties"]
    (1.0, 1.0)
    """

    headline = "overall_without_ties"
    chance: ClassVar[Mapping[str, float]] = {f"{name}_without_ties": 0.5 for name in ASPECTS}
    meanings: ClassVar[Mapping[str, str]] = {
        f"{name}_{ties}": f"{what} ({_WHAT[name]}), 0 to 1"
        for name in ASPECTS
        for ties, what in (
            ("without_ties", "the share of pairs that people do not tie and scores order alike"),
            ("with_ties", "the share of all pairs that scores order or tie as people do"),
        )
    }

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        counts = {}
        for k, name in enumerate(ASPECTS):
            sides = [_sides(item, of_item, k) for item, of_item in zip(items, scores, strict=True)]
            of_item = np.repeat(np.arange(len(items)), [len(s) for s in sides])
            human = np.array([rated for i in items for rated in i.labels[name]], np.float64)
            for ties, right in _outcomes(np.concatenate(sides or [np.empty((0, 2))]), human):
                scored = ~np.isnan(right)
                counts[f"{name}_{ties}"] = np.stack(
                    [
                        np.bincount(of_item[scored], weights, minlength=len(items))
                        for weights in (right[scored], np.ones(scored.sum()))
                    ]
                )

        def compute(index: IntArray) -> Mapping[str, float]:
            sums = {name: table[:, index].sum(axis=1) for name, table in counts.items()}
            return {
                name: Estimate(right / pairs if pairs else np.nan, "share")
                for name, (right, pairs) in sums.items()
            }

        return compute


class VideoGenRewardBench(FramesForm, Published, VideoPairsForm):
    """The prompts of the published file in `root`.

    Args:
        options: `whole` of `FramesForm`, and others.
    """

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for name, prompt, videos, labels in _prompts(self.file("videogen-rewardbench.csv")):
            frames = [
                video_frames(Path(self.image_path(path)), FRAMES, "uniform", whole=self.whole)
                for path in videos
            ]
            images = [frame for of_video in frames for frame in of_video]
            yield Item(images, [prompt], labels | _positions(frames), id=name)

    @override
    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        rewards: dict[str, list[float]] = {}
        columns = [f"reward_{column}_{side}" for column in ASPECTS.values() for side in SIDES]
        for n, row in enumerate(rows(Path(path), *columns), 1):
            for side in SIDES:
                rewards[f"{n} {side}"] = [
                    number(row[name], f"{path}, row {n}: {name!r}", -np.inf, np.inf)
                    for name in (f"reward_{column}_{side}" for column in ASPECTS.values())
                ]
        items, scores = [], []
        for name, _, videos, labels in _prompts(Path(path), by_row=True):
            labels |= _positions([[video] for video in videos])
            items.append(Item((), (), labels, id=name))
            of_item: Any = np.array([rewards[video] for video in videos], np.float64)
            scores.append(of_item)
        return items, scores


def _prompts(
    path: Path, by_row: bool = False
) -> Iterator[tuple[str, str, list[str], dict[str, Any]]]:
    """Yield number, text, paths of videos and labels of each prompt.

    With `by_row`, a video of each row is a video of its own, named by its row and side.
    """
    videos: dict[str, dict[str, int]] = {}
    labels: dict[str, dict[str, Any]] = {}
    columns = ("path_A", "path_B", "prompt", *ASPECTS.values())
    for n, row in enumerate(rows(path, *columns), 1):
        prompt = row["prompt"]
        of_prompt = videos.setdefault(prompt, {})
        listed = labels.setdefault(prompt, {"pairs": [], **{name: [] for name in ASPECTS}})
        names = [f"{n} {side}" if by_row else row[f"path_{side}"] for side in SIDES]
        pair = [of_prompt.setdefault(name, len(of_prompt)) for name in names]
        if row["path_A"] == row["path_B"]:
            raise BenchmarkDataError(f"{path}, row {n}: {row['path_A']!r} is compared with itself")
        listed["pairs"].append(pair)
        for name, column in ASPECTS.items():
            if row[column] not in PREFERENCES:
                raise BenchmarkDataError(
                    f"{path}, row {n}: {column!r} is {row[column]!r}, not A, B or same"
                )
            listed[name].append(PREFERENCES[row[column]])
    for n, prompt in enumerate(labels, 1):
        yield str(n), prompt, list(videos[prompt]), labels[prompt]


def _positions(frames: Sequence[Sequence[MediaLike]]) -> dict[str, list[list[int]]]:
    """Return the label that says which images are the frames of each video."""
    ends = np.cumsum([len(of_video) for of_video in frames]).tolist()
    starts = [0, *ends[:-1]]
    return {"frames": [[*range(a, b)] for a, b in zip(starts, ends, strict=True)]}


def _sides(item: Item, scores: Any, aspect: int) -> FloatArray:
    """Return the scores of both sides of each pair, shape (pairs, 2)."""
    column = np.asarray(scores, np.float64)[:, aspect if scores.shape[1] > 1 else 0]
    sides: FloatArray = column[np.array(item.labels["pairs"], np.int64)]
    return sides


def _outcomes(sides: FloatArray, human: FloatArray) -> Iterator[tuple[str, FloatArray]]:
    """Yield whether scores are right on each pair, without and with ties; NaN does not count."""
    apart = sides[:, 0] - sides[:, 1]
    ordered = np.where(np.isnan(apart), np.nan, apart * human > 0)
    yield "without_ties", np.where(human == 0, np.nan, ordered)
    rated = np.stack([human, np.zeros(len(human))], axis=1)
    threshold = pairwise_accuracy(sides, rated).threshold if len(sides) else 0.0
    tied = np.abs(apart) <= threshold
    right = np.where(tied, human == 0, apart * human > 0)
    yield "with_ties", np.where(np.isnan(apart), np.nan, right)
