"""EvalMi-50K (Wang et al. 2025): images of 24 generators with two mean opinion scores and yes/no.

    https://github.com/IntMeGroup/LMM4LMM
    ROOT/MOS&QA/AIGI2025_MOS_yn.xlsx    ImageName (GENERATOR/001.png), MOS1, MOS2, Y/N, YN_1 ...
    ROOT/prompts/prompt_tasks.jsonl     {"tag", "prompt"}; line n is the prompt of the images n.png
    ROOT/GENERATOR/001.png              the images, here or in ROOT/images; their archives on the
                                        hub, IntMeGroup/EvalMi-50K, were not seen

MOS1 is of perception, MOS2 of the correspondence with the text, and Y/N says whether an image does
what its task asks. That lines are prompts of images by their numbers was checked with question.xlsx
of the repository, whose questions are as many as the answers YN_1 ... of the image. An item is a
prompt with its images; the tag is its task. Published figures are means over five test folds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, number, read_lines
from .forms.ratings import LabelsForm, RatingsForm
from .forms.sheet import sheet_rows

RANGES = {"MOS1": (0.0, 100.0), "MOS2": (0.0, 100.0), "Y/N": (0.0, 1.0)}


class RatedPrompts(Published):
    """The prompts of the published files in `root`, with one column of labels.

    Args:
        target: the column: "MOS1", "MOS2" or "Y/N".

    >>> from t2v_eval.registry import benchmarks
    >>> benchmarks.create("evalmi-50k").target
    'MOS2'
    """

    def __init__(self, *, target: str = "MOS2", **options: Any) -> None:
        super().__init__(**options)
        self.target = target

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("MOS&QA/AIGI2025_MOS_yn.xlsx", "AIGI2025_MOS_yn.xlsx")
        texts = self.file("prompts/prompt_tasks.jsonl", "prompt_tasks.jsonl")
        prompts = list(_prompts(texts))
        rated: dict[int, dict[str, float]] = {}
        for n, row in enumerate(sheet_rows(path, "ImageName", self.target), 2):
            where = f"{path}, row {n}"
            name = field(row, "ImageName", str, where)
            image = Path(name).stem
            if not image.isdecimal() or not 1 <= int(image) <= len(prompts):
                raise BenchmarkDataError(
                    f"{where}: the image is {name!r}, not GENERATOR/NUMBER.png with a number of "
                    f"the {len(prompts)} lines of {texts.name}"
                )
            of_prompt = rated.setdefault(int(image), {})
            if name in of_prompt:
                raise BenchmarkDataError(f"{where}: {name} occurs twice")
            value = row.get(self.target)
            of_prompt[name] = number(value, f"{where}: {self.target!r}", *RANGES[self.target])
        for n, of_prompt in sorted(rated.items()):
            prompt, tag = prompts[n - 1]
            yield Item(
                images=[self.image_path(name, ".", "images") for name in of_prompt],
                texts=[prompt],
                labels={
                    "human": list(of_prompt.values()),
                    "generator": [Path(name).parent.name for name in of_prompt],
                },
                tags=(tag,),
                id=str(n),
                group=prompt,
            )


def _prompts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the prompt and the task of each line; other keys of a line may be there twice."""
    for n, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {n}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BenchmarkDataError(f"{where} is no JSON: {error}") from error
        yield field(row, "prompt", str, where), field(row, "tag", str, where)


class EvalMi50K(RatedPrompts, RatingsForm):
    """Agreement with mean opinion scores, by the correlations that the authors' script prints.

    Args:
        options: `target` of `RatedPrompts`, and others.
    """

    metric_names = ("spearman", "pearson", "tau_b")


class EvalMi50KAnswers(RatedPrompts, LabelsForm):
    """Whether an image does what its task asks.

    Args:
        options: `target` of `RatedPrompts`, and others.
    """
