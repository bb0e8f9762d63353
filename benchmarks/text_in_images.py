"""Sets of prompts with texts that the images should show, for scorers that read them.

    text_prompts.jsonl       ROOT for longtext-bench: {"prompt_id", "prompt", "text": [...],
                             "category", "length"}; of longtext-bench-zh, text_prompts_zh.jsonl
    scripts/text/            ROOT for oneig-text, and there text_content.csv: id, prompt_en and
                             text_content, a list of texts as Python writes it; of oneig-text-zh,
                             text_content_zh.csv with prompt_cn
    CVTG/2.json ... 5.json   ROOT for cvtg-2k: {"data_list": [{"index", "prompt"}]}, where the name
    CVTG-Style/2.json ...    of a file is the number of texts; its texts are in the single quotes of
                             a prompt; the authors' script takes an apostrophe for one, too

Sources: github.com/X-Omni-Team/X-Omni, folder textbench; huggingface.co/datasets/dnkdnk/CVTG-2K;
github.com/OneIG-Bench/OneIG-Benchmark. Images come from --images, named as by the authors' scripts:
0000_1.png to 0159_4.png, CVTG/2/0.png, and text/000.webp with four images.

`overall` is the published figure of these sets where a scorer reads with their measure: the words
that were read right in all images, of all words. It is the mean of the images' scores, weighted by
the number of words of their prompts; with several folders, `overall_FOLDER` of each. Of OneIG-Bench
it is WAC; `image_mean`, the mean of all images, is CR or minus ED, by the measure, and
`oneig_text_score` makes the text score of the three.
"""

from __future__ import annotations

import ast
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.inputs.target_texts import TargetTexts, quoted, texts_of
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.text_rendering.measures import cased_units, recall_units, spaced_words

from .forms.oneig import OneIgForm
from .forms.prompt_names import Names, Prompt
from .forms.prompts import PromptsForm
from .forms.published import field, read_json, rows

CVTG_PARTS = ("CVTG", "CVTG-Style")  # the second names sizes, colours and fonts
CVTG_TEXTS = (2, 3, 4, 5)
_ESCAPE = re.compile(r"\\(?!['\"])")


class _Row(NamedTuple):
    prompt: Prompt
    texts: tuple[str, ...]


class TextInImages(PromptsForm):
    """Prompts with the texts that their images should show; subclasses implement `rows`.

    >>> list(TextInImages.meanings)
    ['score', 'overall']
    """

    meanings: ClassVar[Mapping[str, str]] = {
        **PromptsForm.meanings,
        "overall": "the mean score of all images, weighted by the number of words to write",
    }

    @staticmethod
    @abstractmethod
    def words(texts: Iterable[str]) -> list[str]:
        """Return the words of texts that the authors' script counts."""

    @abstractmethod
    def rows(self) -> Iterator[_Row]:
        """Yield the prompts of the published files, in their order."""

    @override
    def prompts(self, folder: Path) -> list[Prompt]:
        return [row.prompt for row in self.rows()]

    @override
    def target_texts(self) -> TargetTexts:
        self.folder()  # raises where there is none
        return TargetTexts({row.prompt.text: row.texts for row in self.rows()}, self.place)

    def weights(self, items: Sequence[Item]) -> Mapping[str, Sequence[int]]:
        """Return the weight of an item's images, by the metrics that are weighted means."""
        texts = self.target_texts()
        return {"overall": [len(self.words(texts.of_prompt(item.texts[0]))) for item in items]}

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        of_prompts = super().statistic(items, scores)
        sums = {
            metric if len(self.images) == 1 else f"{metric}_{name}": np.array(
                [
                    [weight * np.nansum(cells), weight * np.isfinite(cells).sum()]
                    for weight, cells in zip(weights, listed, strict=True)
                ]
            )
            for metric, weights in self.weights(items).items()
            for name, listed in self.cells_by_folder(items, scores).items()
        }

        def metrics_at(index: IntArray) -> Mapping[str, float]:
            figures = dict(of_prompts(index))
            for name, of_items in sums.items():
                total, count = of_items[index].sum(axis=0)
                figures[name] = float(total / count) if count else float("nan")
            return figures

        return metrics_at


class LongTextBench(TextInImages):
    """160 prompts of eight categories with short or long texts, in English or Chinese.

    Args:
        language: "en" or "zh".
    """

    def __init__(self, *, language: str = "en", **options: Any) -> None:
        super().__init__(**options)
        self.language = language

    @staticmethod
    @override
    def words(texts: Iterable[str]) -> list[str]:
        return recall_units(texts)

    @override
    def rows(self) -> Iterator[_Row]:
        path = self.file("text_prompts_zh.jsonl" if self.language == "zh" else "text_prompts.jsonl")
        for n, row in enumerate(rows(path, "prompt_id", "prompt", "text"), 1):
            where = f"{path}, row {n}"
            tags = tuple(field(row, key, str, where) for key in ("category", "length"))
            name = str(field(row, "prompt_id", int, where))
            prompt = Prompt(name, field(row, "prompt", str, where), tags)
            yield _Row(prompt, texts_of(row, where))


class OneIgText(OneIgForm, TextInImages):
    """200 prompts of slides, posters, papers and so on, in English or Chinese.

    Texts are read as by the authors' script, which does not parse their list: a line break within a
    text, as five prompts have, counts as a letter n.
    """

    classes: ClassVar[Mapping[str, tuple[str, ...]]] = {"en": ("text",), "zh": ("text",)}
    meanings: ClassVar[Mapping[str, str]] = {
        **TextInImages.meanings,
        "image_mean": "the mean score of all images; CR of OneIG-Bench with measure=exact, and "
        "minus its ED with measure=edit-distance",
    }

    @staticmethod
    @override
    def words(texts: Iterable[str]) -> list[str]:
        return cased_units(texts)

    @override
    def weights(self, items: Sequence[Item]) -> Mapping[str, Sequence[int]]:
        return {**super().weights(items), "image_mean": [1] * len(items)}

    @override
    def rows(self) -> Iterator[_Row]:
        name = f"text_content{self.end}.csv"
        path, column = (
            self.file(f"scripts/text/{name}", name),
            "prompt_cn" if self.end else "prompt_en",
        )
        for n, row in enumerate(rows(path, "id", column, "text_content"), 1):
            prompt = Prompt(f"text{self.end}_{row['id']}", row[column])
            yield _Row(prompt, _texts_of_list(row["text_content"], f"{path}, row {n}"))


def _texts_of_list(cell: str, where: str) -> tuple[str, ...]:
    """Parse a list of texts that Python wrote; of escapes, only those of quotes are decoded."""
    try:
        texts = ast.literal_eval(_ESCAPE.sub(r"\\\\", cell))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise BenchmarkDataError(f"{where}: 'text_content' is {cell[:60]!r}, not a list of texts")
    return tuple(texts)


class Cvtg2k(TextInImages):
    """2,000 prompts with two to five texts, half of them with sizes, colours and fonts."""

    @staticmethod
    @override
    def words(texts: Iterable[str]) -> list[str]:
        return spaced_words(texts)

    @override
    def rows(self) -> Iterator[_Row]:
        for part in CVTG_PARTS:
            for number in CVTG_TEXTS:
                folders = (part, part.replace("S", "s"))  # as in its archive, and in its README
                path = self.file(*(f"{folder}/{number}.json" for folder in folders))
                content = read_json(path, dict)
                for n, row in enumerate(field(content, "data_list", list, str(path)), 1):
                    where = f"{path}, row {n}"
                    index = field(row, "index", int, where)
                    text = field(row, "prompt", str, where)
                    texts = quoted(text)
                    if not texts:
                        raise BenchmarkDataError(f"{where}: 'prompt' has no text in quotes")
                    tags = (part, f"{number} texts")
                    yield _Row(Prompt(f"{part}/{number}/{index}", text, tags), texts)

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """CVTG/2/0.png, as the script of the authors names images."""
        by_folder = {part.lower(): part for part in CVTG_PARTS}
        if len(parts) != 3 or (part := by_folder.get(parts[0].lower())) is None:
            return None
        if numbers := names.by_id(f"{part}/{parts[1]}/{Path(parts[2]).stem}"):
            return "in CVTG-2K's layout", numbers
        return f"of no prompt of {part}/{parts[1]}", []
