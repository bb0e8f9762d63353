"""Sets of prompts with questions about their images, which the scorers of questions ask.

    dpg_bench.csv                ROOT for dpg-bench: DSG's columns, a row for each question
    geneval2_data.jsonl          ROOT for geneval2: {"prompt", "atom_count", "vqa_list", "skills"}
    OneIG-Bench.csv              ROOT for oneig: category, id, prompt_en; of oneig-zh, prompt_cn in
                                 OneIG-Bench-ZH.csv
    scripts/alignment/Q_D/       and there anime.json, human.json, object.json: questions and
                                 dependencies by id; of oneig-zh, anime_zh.json and so on

Images come from --images, a folder for each generator. A file of several images in a grid, which
the scripts of DPG-Bench and OneIG-Bench expect, is cut with `grid` before it is scored; the score
of a prompt is the mean of its images. Without a named file of questions, a scorer asks those of the
set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.inputs.questions.question import Questions

from .forms.oneig import OneIgForm
from .forms.prompt_names import Prompt
from .forms.prompts import PromptsForm
from .forms.published import field, rows


class DpgBench(PromptsForm):
    """1,065 long prompts with DSG's questions.

    Args:
        layout_of_questions: "dsg", or "dpg-bench-script" for the questions that the authors' script
            reads, which skips the first row of the file.
    """

    def __init__(self, *, layout_of_questions: str = "dsg", **options: Any) -> None:
        super().__init__(**options)
        self.layout_of_questions = layout_of_questions

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        texts = {
            row["item_id"]: row["text"]
            for row in rows(self.file("dpg_bench.csv"), "item_id", "text")
        }
        for name, text in texts.items():
            yield Prompt(name, text)

    @override
    def questions(self, rule: str = "dsg") -> Questions:
        return self.read_questions("dpg_bench.csv", layout=self.layout_of_questions)


class GenEval2(PromptsForm):
    """800 prompts of three to ten atoms, with a question for each."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("geneval2_data.jsonl")
        for n, row in enumerate(rows(path, "prompt", "atom_count")):
            where = f"{path}, row {n + 1}"
            atoms = field(row, "atom_count", int, where)
            yield Prompt(str(n), field(row, "prompt", str, where), (f"{atoms} atoms",))

    @override
    def questions(self, rule: str = "soft-tifa-gm") -> Questions:
        return self.read_questions("geneval2_data.jsonl", layout="geneval2")


class OneIgBench(OneIgForm):
    """The prompts of OneIG-Bench that have questions about alignment."""

    classes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "en": ("anime", "human", "object"),
        "zh": ("anime", "human", "object", "multilingualism"),
    }

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        for listed in self.questions().items.values():
            yield Prompt(listed[0].item, listed[0].text, (listed[0].tag.removesuffix("_zh"),))

    @override
    def questions(self, rule: str = "dsg") -> Questions:
        # In front of all, as the questions of a class have no texts of their own.
        self.file("OneIG-Bench-ZH.csv" if self.end else "OneIG-Bench.csv")
        parts = [
            self.read_questions(f"scripts/alignment/Q_D/{name}{self.end}.json", layout="oneig")
            for name in self.classes[self.language]
        ]
        return Questions([question for part in parts for question in part], name=self.place)
