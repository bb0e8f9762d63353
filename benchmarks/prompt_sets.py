"""Sets of prompts to evaluate a generator on: its images come from --images.

    PartiPrompts.tsv             ROOT for partiprompts: Prompt, Category, Challenge, Note (tabs)
    drawbench.csv                ROOT for drawbench: Prompts, Category
    evaluation_metadata.jsonl    ROOT for geneval: {"tag", "prompt", ...}
    color_val.txt ...            ROOT for t2i-compbench: eight files with a prompt a line
    genai_image.json             ROOT for genai-bench-prompts, with genai_skills.json
    tifa_v1.0_text_inputs.json   ROOT for tifa-v1: [{"id", "caption"}]; its questions are in
                                 tifa_v1.0_question_answers.json
    dsg-1k-anns.csv              ROOT for dsg-1k: item_id, text, one row per question
    meta_data.json               ROOT for mjhq-30k: {ID: {"category", "prompt"}}; its reference
                                 images are mjhq30k_imgs/CATEGORY/ID.jpg

`forms/image_folders.py` says how images may be named; GenEval and T2I-CompBench have layouts of
their own. Tags are the sets' own categories.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, TableError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.inputs.object_requirements import Requirements, read_requirements
from t2v_eval.inputs.questions.question import Questions
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.utils.arrays import mean_of_known

from .forms.image_folders import SAMPLES, inner_folders, numbered
from .forms.prompt_names import Names, Prompt
from .forms.prompts import PromptsForm
from .forms.published import field, read_json, read_lines, read_tab_separated, rows
from .genai_bench import skills_of
from .tifa160 import TIFA_QUESTIONS

SKILLS = "color shape texture spatial non_spatial complex numeracy 3d_spatial".split()
# Names of the folders of a skill.
SKILL_OF = {skill.replace("_", ""): skill for skill in SKILLS} | {"2dspatial": "spatial"}


class PartiPrompts(PromptsForm):
    """1,632 prompts with a category and a challenge."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("PartiPrompts.tsv")
        head, *lines = read_tab_separated(path, 4) or [[]]
        if head[:3] != ["Prompt", "Category", "Challenge"]:
            raise BenchmarkDataError(f"{path} has the columns {head}, not Prompt, Category, ...")
        for n, (text, category, challenge, _) in enumerate(lines):
            yield Prompt(str(n), text, (category, challenge))


class DrawBench(PromptsForm):
    """200 prompts in 11 categories."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("drawbench.csv", "DrawBench.csv")
        for n, row in enumerate(rows(path, "Prompts", "Category")):
            yield Prompt(str(n), row["Prompts"], (row["Category"],))


class GenEval(PromptsForm):
    """553 prompts of six kinds; scored by a scorer here, not by GenEval's own detector.

    `overall` is the unweighted mean, over the six kinds, of the mean score of their images, as in
    evaluation/summary_scores.py of its repository; with several folders, `overall_FOLDER` of each.
    """

    meanings: ClassVar[Mapping[str, str]] = {
        **PromptsForm.meanings,
        "overall": "the unweighted mean, over the tags, of the mean score of their images",
    }

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        of_prompts = super().statistic(items, scores)
        tag = np.unique([item.tags[0] for item in items], return_inverse=True)[1]
        sums = {
            "overall" if len(self.images) == 1 else f"overall_{name}": np.array(
                [[np.nansum(cells), np.isfinite(cells).sum()] for cells in listed]
            )
            for name, listed in self.cells_by_folder(items, scores).items()
        }

        def metrics_at(index: IntArray) -> Mapping[str, float]:
            figures = dict(of_prompts(index))
            for name, of_items in sums.items():
                total, count = (np.bincount(tag[index], column[index]) for column in of_items.T)
                figures[name] = mean_of_known(total[count > 0] / count[count > 0])
            return figures

        return metrics_at

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("evaluation_metadata.jsonl")
        for n, row in enumerate(rows(path, "prompt", "tag")):
            text, tag = (field(row, key, str, f"{path}, row {n + 1}") for key in ("prompt", "tag"))
            yield Prompt(str(n), text, (tag,))

    @override
    def requirements(self) -> Requirements:
        self.folder()  # raises where there is none
        try:
            return read_requirements(self.file("evaluation_metadata.jsonl"))
        except TableError as error:
            raise BenchmarkDataError(f"not as published: {error}") from error

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """00000/samples/00000.png, where 00000 is the line; as there, samples begin with digits."""
        if len(parts) != 3 or parts[1] != SAMPLES or (line := numbered(parts[0])) is None:
            return None
        if not re.match(r"[0-9]+\.", parts[2]):
            return "no sample of GenEval's", []
        if line >= len(names.prompts):
            return "beyond the lines of the set", []
        return "in GenEval's layout", [line]


class T2ICompBench(PromptsForm):
    """The validation prompts, 300 for each of eight skills, in the order of `SKILLS`."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        for skill in SKILLS:
            path = self.file(f"{skill}_val.txt")
            for n, text in enumerate(filter(None, map(str.strip, read_lines(path)))):
                yield Prompt(f"{skill}/{n}", text, (skill,))

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """color/samples/PROMPT_000000.png, or one skill's samples/PROMPT_000000.png."""
        rule = "by prompt in T2I-CompBench's layout"
        folders, name = inner_folders(parts), Path(parts[-1]).stem
        if not folders:
            exact = names.exactly(name) if re.search(r"_[0-9]{6}$", name) else None
            return (rule, exact) if exact else None
        skill = SKILL_OF.get(re.sub(r"[^a-z0-9]|val$", "", folders[0].lower()))
        if skill is None or len(folders) > 1:
            return None
        match = names.find_tagged(name, skill)
        if match is None:
            return f"of no prompt of {skill}", []
        return f"{match[0]} in T2I-CompBench's layout", match[1]


class GenAIPrompts(PromptsForm):
    """The prompts of GenAI-Bench, without the rated images."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("genai_image.json")
        content = read_json(path, dict)
        skills = skills_of(self.file("genai_skills.json"), content)
        for name, row in content.items():
            text = field(row, "prompt", str, f"{path}, {name!r}")
            yield Prompt(name, text, tuple(skills[name]))


class TifaV1(PromptsForm):
    """4,081 prompts of four sources, with TIFA's questions for scorers that ask them."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("tifa_v1.0_text_inputs.json")
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            name = field(row, "id", str, where)
            yield Prompt(name, field(row, "caption", str, where), (name.partition("_")[0],))

    @override
    def questions(self, rule: str = "tifa") -> Questions:
        return self.read_questions(TIFA_QUESTIONS, layout="tifa")


class Dsg1k(PromptsForm):
    """1,060 prompts of ten sources, with DSG's questions for scorers that ask them."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("dsg-1k-anns.csv")
        texts: dict[str, str] = {}
        for n, row in enumerate(rows(path, "item_id", "text"), 1):
            if texts.setdefault(row["item_id"], row["text"]) != row["text"]:
                raise BenchmarkDataError(f"{path}, row {n}: {row['item_id']} has another text")
        for name, text in texts.items():
            yield Prompt(name, text, (name.rpartition("_")[0],))

    @override
    def questions(self, rule: str = "dsg") -> Questions:
        return self.read_questions("dsg-1k-anns.csv", layout="dsg")


class Mjhq30k(PromptsForm):
    """30,000 prompts in ten categories, each with a reference image, for distances between sets."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("meta_data.json")
        for name, row in read_json(path, dict).items():
            where = f"{path}, {name!r}"
            category = field(row, "category", str, where)
            yield Prompt(name, field(row, "prompt", str, where), (category,))

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """CATEGORY/ID.jpg, as the reference images are named."""
        ids = names.by_id(Path(parts[-1]).stem)
        return ("by id in the layout of MJHQ-30K", ids) if ids and len(parts) == 2 else None
