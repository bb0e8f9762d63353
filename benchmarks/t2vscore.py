"""TVGE of T2VScore (Wu et al. 2024): 2,543 videos of five generators with one rating each.

    https://github.com/linzhiqiu/t2v_metrics    datasets: the ratings
    https://huggingface.co/datasets/RaphaelLiu/EvalCrafter_T2V_Dataset    the videos
    ROOT/t2vscore_alignment_score.json    {"0": {"prompt", "models": {generator: [rating]}}}
    ROOT/t2vscore_quality_score.json      the same, for `target="quality"`
    ROOT/gen2/0000.mp4                    and so on; or frames, see `forms/frames.py`

A rating is the mean of several people's, from 1 to 5. A video's score is the mean over its first 36
frames; where it has fewer, the last one is repeated. With `whole` it is that of the video. An item
is a prompt with its videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.evaluation.benchmark import Item

from .forms.frames import FramesForm, generated_video_frames, videos_item
from .forms.published import Published, field, mean, read_json
from .forms.ratings import RatingsForm

GENERATORS = ("floor33", "gen2", "pika", "modelscope", "zeroscope")


class T2VScore(FramesForm, Published, RatingsForm):
    """The prompts of the published files in `root`.

    Args:
        target: "alignment" or "quality".
        options: `whole` of `FramesForm`, and others.
    """

    metric_names = ("acc23", "pearson", "tau_b", "spearman", "tau_c")

    def __init__(self, *, target: str = "alignment", **options: Any) -> None:
        super().__init__(**options)
        if target not in ("alignment", "quality"):
            raise InputError(f"`target={target!r}`: use 'alignment' or 'quality'")
        self.target = target

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file(f"t2vscore_{self.target}_score.json")
        for name, row in read_json(path, dict).items():
            where = f"{path}, {name!r}"
            models = field(row, "models", dict, where)
            rated = [model for model in GENERATORS if model in models]
            if not rated or len(rated) < len(models):
                raise BenchmarkDataError(
                    f"{where} has the generators {', '.join(models) or 'none'}; known are "
                    f"{', '.join(GENERATORS)}"
                )
            yield videos_item(
                [
                    generated_video_frames(folder, model, name.zfill(4), self.whole)
                    for model in rated
                ],
                field(row, "prompt", str, where),
                [mean(models[m], f"{where}: {m!r}", 1, 5) for m in rated],
                (),
                name,
                generators=rated,
            )
