"""Sets of prompts: how well do the images that a generator made of them show what they say?

`images` is a folder of images, or several, one for each generator. Which image belongs to which
prompt is said in `_folders`. A prompt may have several images, whose scores are averaged; one
without any is an error, or with `on_missing="skip"` is left out.

`score` is the mean over prompts. With several folders there is one such mean for each, by the
folder's name, and for each two of them their difference, prompt by prompt: paired, so that its
interval has none of what makes prompts hard. It is over the prompts that both have. Whether it is
more than chance is a test of the signs of these differences, overall and for each category,
corrected for all categories.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Contrast, Item, Scores
from t2v_eval.evaluation.selection import first_few
from t2v_eval.stats.bootstrap import Statistic
from t2v_eval.utils.arrays import FloatArray, mean_of_known

from .image_folders import Matched, looks_from_one, match
from .prompt_names import Names, Prompt
from .published import LEAVE_OUT, Published


class PromptsForm(Published):
    """Subclasses write `prompts`, and `layout` where the set's own scripts have one.

    Args:
        images: the folder of images, or several.
    """

    meanings: ClassVar[Mapping[str, str]] = {
        "score": "the mean score over prompts, on the scorer's own scale"
    }

    def __init__(self, *, images: str | Path | Sequence[str | Path] = (), **options: Any) -> None:
        super().__init__(**options)
        folders = [images] if isinstance(images, (str, Path)) else list(images)
        self.images = [Path(folder).expanduser() for folder in folders]

    @abstractmethod
    def prompts(self, folder: Path) -> Iterable[Prompt]:
        """The prompts of the published files in `folder`, in their order."""

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """Where the set's own scripts put images; see `_folders.Layout`."""
        return None

    def check(self) -> str:
        if self.images or self.root is None:
            return super().check()
        return f"{len(list(self.prompts(self.root)))} prompts"

    def read(self, folder: Path) -> Iterator[Item]:
        prompts = list(self.prompts(folder))
        if not self.images:
            raise BenchmarkDataError(
                f"{self.name} is a set of {len(prompts)} prompts: pass the folder of the images "
                "that were made of them with --images (images=), once for each generator"
            )
        chosen = {id(prompt) for prompt in self.selection.with_tags(prompts)}
        part = [n for n, prompt in enumerate(prompts) if id(prompt) in chosen]
        names = [folder.name for folder in self.images]
        names = names if len(names) == 1 else _names(self.images)
        found = []
        for name, image_folder in zip(names, self.images, strict=True):
            matched = match(image_folder, prompts, self.layout)
            lacking = [n for n in part if not matched.images[n]]
            if lacking and (len(lacking) == len(part) or not self.selection.skips):
                raise self._missing(image_folder, prompts, part, lacking, matched)
            found.append(matched.images)
            self._remember(name, matched, len(part) - len(lacking), len(part))
        for (first, one), (second, other) in combinations(zip(names, found, strict=True), 2):
            both = sum(bool(one[n] and other[n]) for n in part)
            if both < len(part):
                self.selection.remarks.append(
                    f"{first} - {second} is over the {both} prompts that both have."
                )
        for n in part:
            prompt, own = prompts[n], [of[n] for of in found]
            if not any(own):
                self.selection.left_out[prompt.id] = prompt.text
                continue
            yield Item(
                images=[str(path) for paths in own for path in paths],
                texts=[prompt.text],
                labels={"folder": [k for k, paths in enumerate(own) for _ in paths]},
                tags=prompt.tags,
                id=prompt.id,
            )

    def _remember(self, name: str, matched: Matched, prompts: int, of: int) -> None:
        """Keep for the report how a folder was read."""
        have = f" It has images of {prompts} of {of} prompts." if prompts < of else ""
        self.selection.remarks.append(f"{name}: {matched.told()}.{have}")
        facts = {"folder": name, "prompts": prompts, "prompts_of_all": of, **matched.facts()}
        self.selection.folders.append(facts)

    def _missing(
        self,
        folder: Path,
        prompts: Sequence[Prompt],
        part: Sequence[int],
        lacking: Sequence[int],
        matched: Matched,
    ) -> BenchmarkDataError:
        first = prompts[lacking[0]]
        called = f"{first.id if first.id.isdecimal() else lacking[0]:0>5}"
        from_one = not lacking[0] and looks_from_one(matched.names, len(prompts))
        which = first_few([f"{prompts[n].id}, {prompts[n].text!r}" for n in lacking])
        hint = "; numbers start at 0, and these seem to start at 1" if from_one else ""
        told = f" There are {matched.told()}." if matched.told() else ""
        remedy = f" {LEAVE_OUT}." if len(lacking) < len(part) else ""
        return BenchmarkDataError(
            f"{len(lacking)} of {len(part)} prompts have no image in {folder}: {which}{hint}. A "
            f"image is called by its prompt's number, as {called}.png, or {called}_0.png where "
            f"there are several, or by the prompt.{told}{remedy}"
        )

    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        columns = self._by_folder(items, scores)
        for (first, second), values in self.contrasts(items, scores).items():
            columns[f"{first} - {second}"] = values
        return lambda index: {
            name: mean_of_known(values[index]) for name, values in columns.items()
        }

    def contrasts(self, items: Sequence[Item], scores: Scores) -> Mapping[Contrast, FloatArray]:
        pairs = combinations(self._by_folder(items, scores).items(), 2)
        return {(first, second): one - other for (first, one), (second, other) in pairs}

    def _by_folder(self, items: Sequence[Item], scores: Scores) -> dict[str, FloatArray]:
        """The mean score of each prompt's images, for each folder by its name."""
        found = {name: np.full(len(items), np.nan) for name in _names(self.images)}
        for n, (item, one) in enumerate(zip(items, scores, strict=True)):
            cells, folder = np.ravel(one).astype(np.float64), np.array(item.labels["folder"])
            for k, means in enumerate(found.values()):
                means[n] = mean_of_known(cells[folder == k])
        return found


def _names(folders: Sequence[Path]) -> list[str]:
    if len(folders) == 1:
        return ["score"]
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
