"""GenAI-Bench (Li et al. 2024): prompts, the images of six generators, three ratings each.

    https://huggingface.co/datasets/BaiqiL/GenAI-Bench-1600        and zhiqiulin/GenAI-Bench-527
    ROOT/genai_image.json     {"00000": {"prompt": ..., "models": {generator: [1 to 5, ...]}}}
    ROOT/genai_skills.json    {skill: [numbers of prompts]}
    ROOT/DALLE_3/00000.jpeg   and so on: the zip file of each generator, unpacked

An item is a prompt with its six images; the human value is the mean of an image's ratings. Tags are
the skills, "basic" and "advanced" among them; a few prompts have none. The 527 prompts are those of
VQAScore's paper, the 1,600 those of GenAI-Bench's: their figures are not the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, mean, read_json
from .forms.ratings import RatingsForm


@dataclass(frozen=True, slots=True)
class RatedPrompt:
    """A prompt and the ratings of each generator's image or video of it."""

    name: str
    text: str
    ratings: Mapping[str, list[Any]]
    human: list[float]
    skills: tuple[str, ...]


class GenAIForm(Published, RatingsForm):
    """What rated images and videos have in common; generators are in the authors' order.

    A prompt may lack generators, as some do for videos.
    """

    metric_names = ("acc23", "pearson", "tau_b", "spearman", "tau_c")
    annotations: ClassVar[str]
    generators: ClassVar[tuple[str, ...]]

    def rated_prompts(self) -> Iterator[RatedPrompt]:
        """Read the prompts with the ratings of their images, in the order of the file."""
        path = self.file(self.annotations)
        prompts = read_json(path, dict)
        skills = skills_of(self.file("genai_skills.json"), prompts)
        for name, row in prompts.items():
            where = f"{path}, {name!r}"
            models = field(row, "models", dict, where)
            other = [model for model in models if model not in self.generators]
            if other or not models:
                what = f"there is a generator {other[0]!r}" if other else "there is no generator"
                raise BenchmarkDataError(f"{where}: {what}; known are {', '.join(self.generators)}")
            ratings = {model: models[model] for model in self.generators if model in models}
            human = [mean(values, f"{where}: {m!r}", 1, 5) for m, values in ratings.items()]
            text = field(row, "prompt", str, where)
            yield RatedPrompt(name, text, ratings, human, tuple(skills[name]))


class GenAIBench(GenAIForm):
    """The prompts of the published files in `root`."""

    annotations = "genai_image.json"
    generators = (
        "DALLE_3", "SDXL_Turbo", "DeepFloyd_I_XL_v1", "Midjourney_6", "SDXL_2_1", "SDXL_Base"
    )  # fmt: skip

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for prompt in self.rated_prompts():
            yield Item(
                images=[self.image_path(f"{model}/{prompt.name}.jpeg") for model in prompt.ratings],
                texts=[prompt.text],
                labels={"human": prompt.human, "generator": list(prompt.ratings)},
                tags=prompt.skills,
                id=prompt.name,
            )


def skills_of(path: Path, prompts: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Return the skills of each prompt; the file gives numbers of prompts, named by five digits."""
    skills_by_prompt: dict[str, list[str]] = defaultdict(list)
    for skill, numbers in read_json(path, dict).items():
        if not isinstance(numbers, list):
            raise BenchmarkDataError(f"{path}: {skill!r} holds no list of prompts")
        for entry in numbers:
            name = f"{entry:05}" if isinstance(entry, int) else str(entry)
            if name not in prompts:
                raise BenchmarkDataError(
                    f"{path}: {skill!r} names the prompt {entry!r}, which does not exist"
                )
            if skill not in skills_by_prompt[name]:
                skills_by_prompt[name].append(skill)
    return skills_by_prompt
