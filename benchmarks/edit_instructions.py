"""Instructions with images to edit: how well do the edits of a generator follow them?

GEdit-Bench (Liu et al. 2025, Step1X-Edit)    https://huggingface.co/datasets/stepfun-ai/GEdit-Bench
    ROOT/*.parquet, or ROOT/data/*.parquet    columns task_type, key, instruction,
                                              instruction_language, input_image, Intersection_exist
    IMAGES/fullset/TASK/LANGUAGE/KEY.png      the results, as the authors' script saves them;
                                              KEY_SRCIMG.png beside one is its source, not read

ImgEdit-Bench, basic (Ye et al. 2025)         https://github.com/PKU-YuanGroup/ImgEdit
    ROOT/basic_edit.json                      {key: {"id": path of the source, "prompt",
                                              "edit_type"}}, of its folder Benchmark/Basic
    ROOT/original_images/...                  the sources by these paths, or in singleturn or ROOT
    IMAGES/KEY.png                            the results

The columns are those that the authors' generate_image_example.py lists; the names of the
Parquet files were not seen, so all of a folder are read. An item is an instruction with the edits
of its source. Tags are the task, and of GEdit-Bench the language and, where the authors' table of
the intersection counts a row, "intersection".

`read_results` reads GPT's grades of edits, as the authors' scripts write them:

GEdit-Bench    MODEL_combined_gpt_score.csv of test_gedit_score.py, or that of a task: edited_image,
               sementics_score, quality_score, intersection_exist, instruction_language. As in
               calculate_statistics.py, overall is the root of the product of both for each edit,
               and each figure the mean over tasks of the means of their edits.
ImgEdit-Bench  result.json of basic_bench.py: {key: reply}. As in step1_get_avgscore.py, an edit's
               score is the mean of the grades that stand alone after ": ", to two digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, T2VWarning
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.utils.arrays import mean_of_known

from .forms.parquet import image_rows
from .forms.prompt_names import Names, Prompt
from .forms.prompts import PromptsForm
from .forms.published import field, number, read_json, rows

GRADES = {"semantic_consistency": "sementics_score", "perceptual_quality": "quality_score"}
"""Grades of an edit of GEdit-Bench, and how the authors' table spells them."""

GRADES_OF_EDIT = 3  # number of grades that GPT gives an edit of ImgEdit-Bench
SOURCE = "_SRCIMG"  # what the authors' script of GEdit-Bench adds to the name of a source


class GEditBench(PromptsForm):
    """The instructions of GEdit-Bench, named TASK/LANGUAGE/KEY.

    An edit has one score. One of results, whose items have no images, has two: `GRADES`.
    """

    meanings: ClassVar[Mapping[str, str]] = {
        **PromptsForm.meanings,
        "semantic_consistency": "how far only what was asked for is edited, 0 to 10",
        "perceptual_quality": "how natural and free of faults the result is, 0 to 10",
        "overall": "the mean over tasks of the roots of the product of both, 0 to 10",
    }

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        texts = ("task_type", "instruction_language", "key", "instruction")
        for path in self.parquet_files():
            rows = image_rows(path, "input_image", [*texts, "Intersection_exist"])
            for n, (source, row) in enumerate(rows, 1):
                where = f"{path}, row {n}"
                task, language, key, instruction = (field(row, t, str, where) for t in texts)
                shared = field(row, "Intersection_exist", bool, where)
                tags = (task, language, *["intersection"] * shared)
                yield Prompt(f"{task}/{language}/{key}", instruction, tags, source)

    @override
    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """.../TASK/LANGUAGE/KEY.png; KEY_SRCIMG.png, which holds the source, is ignored."""
        *folders, name = parts
        stem = Path(name).stem
        if stem.endswith(SOURCE):
            return "a source image", []
        numbers = names.by_id("/".join([*folders[-2:], stem]))
        return ("by task, language and key", numbers) if numbers else None

    @override
    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        items: dict[str, Item] = {}
        scores = []
        columns = ("edited_image", "intersection_exist", "instruction_language", *GRADES.values())
        for n, row in enumerate(rows(Path(path), *columns), 1):
            where = f"{path}, row {n}"
            task, folder, name = ("", "", "", *Path(row["edited_image"]).parts)[-3:]
            language, shared = row["instruction_language"], str(row["intersection_exist"])
            if not task or folder != language or shared not in ("True", "False"):
                raise BenchmarkDataError(
                    f"{where}: 'edited_image' is {row['edited_image']!r}, not "
                    f".../TASK/{language}/KEY.png, or 'intersection_exist' is {shared!r}"
                )
            identity = f"{task}/{language}/{Path(name).stem}"
            if identity in items:
                raise BenchmarkDataError(f"{where}: {identity} occurs twice; leave one row")
            tags = [language, f"{language}, {task}"]
            tags += [f"{tag}, intersection" for tag in tags] if shared == "True" else []
            labels = {"task": f"{task}/{language}"}
            group = Path(name).stem
            items[identity] = Item((), (), labels, tuple(tags), id=identity, group=group)
            grades = [number(row[c], f"{where}: {c!r}", 0, 10) for c in GRADES.values()]
            scores.append(np.array([grades]))
        return list(items.values()), scores

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        if any(item.images for item in items):
            return super().statistic(items, scores)
        grades = np.concatenate([np.asarray(s, np.float64) for s in scores])
        table = np.column_stack([grades, np.sqrt(grades.prod(axis=1))])
        tasks, task = np.unique([item.labels["task"] for item in items], return_inverse=True)

        def compute(index: IntArray) -> Mapping[str, float]:
            counts = np.bincount(task[index], minlength=len(tasks))
            sums = [np.bincount(task[index], column[index], len(tasks)) for column in table.T]
            rated = counts > 0
            means = [float((of[rated] / counts[rated]).mean()) for of in sums]
            return dict(zip((*GRADES, "overall"), means, strict=True))

        return compute


class ImgEditBench(PromptsForm):
    """The basic instructions of ImgEdit-Bench, named by their keys, which are numbers."""

    @override
    def prompts(self, folder: Path) -> Iterator[Prompt]:
        path = self.file("basic_edit.json")
        for key, row in read_json(path, dict).items():
            where = f"{path}, {key!r}"
            if not key.isdecimal():
                raise BenchmarkDataError(f"{where}: the key is no number")
            source, text, task = (field(row, k, str, where) for k in ("id", "prompt", "edit_type"))
            image = self.image_path(source, "original_images", "singleturn", ".")
            yield Prompt(key, text, (task,), image)

    @override
    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        self.folder()
        replies, file = read_json(Path(path), dict), self.file("basic_edit.json")
        edits = read_json(file, dict)
        if unknown := [key for key in replies if key not in edits]:
            raise BenchmarkDataError(f"{path}: {unknown[0]!r} is no key of {file}")
        grades = {key: _grades(replies.get(key)) for key in edits}
        self._warn_of_grades(path, [of_edit for of_edit in grades.values() if of_edit])
        items = [
            Item((), (), {}, (field(row, "edit_type", str, f"{file}, {key!r}"),), id=key)
            for key, row in edits.items()
        ]
        return items, [
            np.array([[round(sum(g) / len(g), 2) if g else np.nan]]) for g in grades.values()
        ]

    def _warn_of_grades(self, path: str | Path, grades: Sequence[Sequence[int]]) -> None:
        other = sum(len(g) != GRADES_OF_EDIT or not {*g} <= {1, 2, 3, 4, 5} for g in grades)
        if other:
            warnings.warn(
                f"{path}: {other} of {len(grades)} replies do not have three grades from 1 to 5; "
                "as in the authors' script, those that they have are averaged",
                T2VWarning,
                stacklevel=3,
            )

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        if any(item.images for item in items):
            return super().statistic(items, scores)
        values = np.array([float(s[0, 0]) for s in scores])
        return lambda index: {"score": mean_of_known(values[index])}


def _grades(reply: Any) -> list[int]:
    """Return the numbers that stand alone after ": " in the lines of a reply."""
    if not isinstance(reply, str):  # an error, or no reply
        return []
    parts = (line.strip().split(": ") for line in reply.splitlines())
    return [int(p[1]) for p in parts if len(p) == 2 and p[1].isdecimal() and len(p[1]) < 20]
