"""GenAI-Bench for videos (Li et al. 2024): prompts, the videos of four generators, three ratings.

    https://huggingface.co/datasets/zhiqiulin/GenAI-Bench-800    and GenAI-Bench-527
    ROOT/genai_video.json      {"00000": {"prompt": ..., "models": {generator: [1 to 5, ...]}}}
    ROOT/genai_skills.json     {skill: [numbers of prompts]}
    ROOT/Gen2/00000.mp4        and so on: the zip file of each generator, unpacked; or frames, see
                               `forms/frames.py`

A video's score is the mean over its first 36 frames; where it has fewer, the last one is repeated,
as published. With `whole` it is that of the video. An item is a prompt with its videos; tags are
the skills.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from t2v_eval.evaluation.benchmark import Item

from .forms.frames import FramesForm, generated_video_frames, videos_item
from .genai_bench import GenAIForm


class GenAIBenchVideo(FramesForm, GenAIForm):
    """The prompts of the published files in `root`."""

    annotations = "genai_video.json"
    generators = ("Floor33", "Gen2", "Pika_v1", "Modelscope")

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for prompt in self.rated_prompts():
            videos = [
                generated_video_frames(folder, model, prompt.name, self.whole)
                for model in prompt.ratings
            ]
            yield videos_item(
                videos,
                prompt.text,
                prompt.human,
                prompt.skills,
                prompt.name,
                generators=list(prompt.ratings),
            )
