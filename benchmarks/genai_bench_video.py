"""GenAI-Bench for videos (Li et al. 2024): prompts, the videos of four generators, three ratings.

    https://huggingface.co/datasets/zhiqiulin/GenAI-Bench-800    and GenAI-Bench-527
    ROOT/genai_video.json      {"00000": {"prompt": ..., "models": {generator: [1 to 5, ...]}}}
    ROOT/genai_skills.json     {skill: [numbers of prompts]}
    ROOT/frames/Gen2/video_00000_frame_0000.jpg    the frames of ROOT/Gen2/00000.mp4, and so on

A video's score is the mean over its first 36 frames; where it has fewer, the last one is repeated,
as published. Only frames are read: take them out of the videos once, for example

    ffmpeg -i Gen2/00000.mp4 -q:v 2 -start_number 0 frames/Gen2/video_00000_frame_%04d.jpg

An item is a prompt with its four videos; tags are the skills.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2v_eval.benchmark import Item
from t2v_eval.errors import BenchmarkDataError

from ._frames_form import FramesForm, frames_of, item_of
from ._published import Published, field, mean, read_json
from .genai_bench import skills_of

GENERATORS = ("Floor33", "Gen2", "Pika_v1", "Modelscope")


class GenAIBenchVideo(Published, FramesForm):
    """The prompts of the published files in `root`; the order of generators is the authors'."""

    metric_names = ("acc23", "pearson", "tau_b", "spearman", "tau_c")

    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("genai_video.json")
        prompts = read_json(path, dict)
        skills = skills_of(self.file("genai_skills.json"), prompts)
        for name, row in prompts.items():
            where = f"{path}, {name!r}"
            models = field(row, "models", dict, where)
            other = [model for model in models if model not in GENERATORS]
            if other or not models:
                what = f"there is a generator {other[0]!r}" if other else "there is no generator"
                raise BenchmarkDataError(f"{where}: {what}; known are {', '.join(GENERATORS)}")
            rated = [model for model in GENERATORS if model in models]
            yield item_of(
                [frames_of(folder / "frames" / m, f"video_{name}", where) for m in rated],
                field(row, "prompt", str, where),
                [mean(models[m], f"{where}: {m!r}", 1, 5) for m in rated],
                skills[name],
                name,
            )
