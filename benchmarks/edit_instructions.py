"""Instructions with the images that they edit: how well does what a generator made follow them?

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

The columns are those that the authors' generate_image_example.py lists; how the Parquet files are
called was not seen, and all of a folder are read. An item is an instruction with the edits of its
source. Tags are the task, and of GEdit-Bench the language and, where the authors' table of the
intersection counts a row, "intersection".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError

from .forms.parquet import image_rows
from .forms.prompt_names import Names, Prompt
from .forms.prompts import PromptsForm
from .forms.published import field, read_json

SOURCE = "_SRCIMG"  # what the authors' script of GEdit-Bench adds to the name of a source


class GEditBench(PromptsForm):
    """The instructions of GEdit-Bench, named TASK/LANGUAGE/KEY."""

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
