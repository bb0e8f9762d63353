"""Sets of prompts: how well do the images that generators made of them match them?

`images` is a folder of images, or several, one for each generator; `image_folders` matches images
to prompts. The scores of several images of a prompt are averaged; a prompt without an image is an
error, or is left out with `on_missing="skip"`.

`score` is the mean over prompts. With several folders there is one mean for each, by the folder's
name, and for each pair of folders the mean difference over the prompts that both have. Differences
are paired by prompt, so that their intervals do not contain the variance between prompts. A sign
test of these differences, overall and for each category, says whether they exceed chance, corrected
for all categories.

A ``recipe.json`` in a folder is a JSON object of how its images were generated: seeds, steps,
guidance, rewriting and what else its writer knows. It goes into the report as it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, TableError
from t2v_eval.evaluation.benchmark import Contrast, Item, Items, Scores
from t2v_eval.evaluation.selection import first_few
from t2v_eval.inputs.media import Edit, Media, MediaLike
from t2v_eval.inputs.questions.files import read_questions
from t2v_eval.inputs.questions.question import Questions
from t2v_eval.stats.bootstrap import Statistic
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.arrays import CellArrays, FloatArray, mean_of_known
from t2v_eval.utils.text_file import parse_json, read_text

from .image_folders import FolderMatch, folders_within, match
from .image_grid import cut_grid, parse_grid
from .prompt_names import Names, Prompt
from .published import LEAVE_OUT, Published

RECIPE = "recipe.json"
"""The file beside the images of a generator that says how they were generated."""


class PromptsForm(Published):
    """Subclasses implement `prompts`, and `layout` where the set's own scripts have one.

    Args:
        images: the folder of images, or several.
        grid: COLUMNSxROWS, where a file holds several images of a prompt side by side; it is cut
            into these. `black_is_empty` says whether one that is black everywhere stands for none.

    >>> class Mine(PromptsForm):
    ...     def prompts(self, folder):
    ...         return [Prompt("0", "a cat"), Prompt("1", "a dog")]
    >>> Mine(root=".").check()
    '2 prompts'
    """

    meanings: ClassVar[Mapping[str, str]] = {
        "score": "the mean score over prompts, on the scorer's own scale"
    }

    black_is_empty: ClassVar[bool] = False

    def __init__(
        self,
        *,
        images: str | Path | Sequence[str | Path] = (),
        grid: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.grid = parse_grid(grid)
        if isinstance(images, (str, bytes)) or not isinstance(images, Iterable):
            images = [images]
        self.images = [check_path("images", folder) for folder in images]

    @abstractmethod
    def prompts(self, folder: Path) -> Iterable[Prompt]:
        """Read the prompts of the published files in `folder`, in their order."""

    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """Match a path in the layout of the set's own scripts; see `image_folders.Layout`."""
        return None

    @override
    def check(self) -> str:
        if self.images or self.root is None:
            return super().check()
        return f"{len(list(self.prompts(self.root)))} prompts"

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        prompts = list(self.prompts(folder))
        if not self.images:
            raise BenchmarkDataError(
                f"{self.name} is a set of {len(prompts)} prompts: pass the folder of images "
                "generated from them as `images=`, once for each generator"
            )
        self._check_distinct()
        part = self._chosen(prompts)
        names = _generator_names(self.images)
        images_by_folder = []
        for name, image_folder in zip(names, self.images, strict=True):
            matched = match(image_folder, prompts, self.layout, self.selection.skips)
            images = {n: self._cut(matched.images[n]) for n in part}
            lacking = [n for n in part if not images[n]]
            if lacking and (len(lacking) == len(part) or not self.selection.skips):
                raise self._missing(image_folder, prompts, part, lacking, matched)
            if matched.misnumbered:  # of all images, so that each would be of another prompt
                raise BenchmarkDataError(
                    f"the names of images in {image_folder} do not say which prompts they are of: "
                    f"{matched.misnumbered}. The folder has {matched.summary()}."
                )
            images_by_folder.append(images)
            self._remember(name, matched, len(part) - len(lacking), len(part))
            self.selection.folders[-1] = replace(
                self.selection.folders[-1], recipe=read_recipe(image_folder)
            )
        for (first, first_images), (second, second_images) in combinations(
            zip(names, images_by_folder, strict=True), 2
        ):
            both = sum(bool(first_images[n] and second_images[n]) for n in part)
            if both < len(part):
                self.selection.remarks.append(
                    f"{first} - {second} is over the {both} prompts that both have."
                )
        for n in part:
            prompt = prompts[n]
            if not any(images[n] for images in images_by_folder):
                self.selection.left_out[prompt.id] = prompt.text
                continue
            results = [image for listed in images_by_folder for image in listed[n]]
            yield Item(
                images=results if prompt.source is None else _edits(prompt.source, results),
                texts=[prompt.text],
                labels={"folder": [k for k, i in enumerate(images_by_folder) for _ in i[n]]},
                tags=prompt.tags,
                id=prompt.id,
            )

    @override
    def prompts_by_name(self) -> dict[str, str]:
        self.selection.restart()
        prompts = list(self.prompts(self.folder()))
        names = Names(prompts)
        by_name = {}
        for n in self._chosen(prompts):
            name = names.number_of(n)
            if names.find(f"{name}_0", prompt_first=False) != ("by number", [n]):
                raise BenchmarkDataError(
                    f"{self.place}: the image {name}_0.png would not be found as that of prompt "
                    f"{prompts[n].id}, {prompts[n].text!r}; give the prompts other ids"
                )
            by_name[name] = prompts[n].text
        return by_name

    def _cut(self, paths: Sequence[Path]) -> list[str | Media]:
        """Return the images of the files of a prompt."""
        if self.grid == (1, 1):
            return [str(path) for path in paths]
        return [i for path in paths for i in cut_grid(path, *self.grid, self.black_is_empty)]

    def read_questions(self, *names: str, layout: str) -> Questions:
        """Read the questions of the set from the first of some files that there is.

        Raises:
            BenchmarkDataError: none of them exists, or it is not as published.
        """
        try:
            return read_questions(self.file(*names), layout)
        except TableError as error:
            raise BenchmarkDataError(f"not as published: {error}") from error

    def _chosen(self, prompts: Sequence[Prompt]) -> list[int]:
        """Return the numbers of the prompts that the selection chooses."""
        chosen = {id(prompt) for prompt in self.selection.with_tags(prompts)}
        return [n for n, prompt in enumerate(prompts) if id(prompt) in chosen]

    def _check_distinct(self) -> None:
        """Refuse a folder that is passed twice: it would be compared with itself."""
        places = [folder.resolve() for folder in self.images]
        for folder, place in zip(self.images, places, strict=True):
            if places.count(place) > 1:
                raise BenchmarkDataError(f"{folder} is passed twice as `images=`: pass it once")

    def _remember(self, name: str, matched: FolderMatch, prompts: int, num_prompts: int) -> None:
        """Record for the report how a folder was read."""
        have = (
            f" It has images of {prompts} of {num_prompts} prompts."
            if prompts < num_prompts
            else ""
        )
        self.selection.remarks.append(f"{name}: {matched.summary()}.{have}")
        self.selection.folders.append(matched.facts(name, prompts, num_prompts))

    def _missing(
        self,
        folder: Path,
        prompts: Sequence[Prompt],
        part: Sequence[int],
        lacking: Sequence[int],
        matched: FolderMatch,
    ) -> BenchmarkDataError:
        first = prompts[lacking[0]]
        example = f"{first.id if first.id.isdecimal() else lacking[0]:0>5}"
        by_id = "" if first.id.isdecimal() else f"id, as {first.id}.png, or its "
        which = first_few([f"{prompts[n].id} ({prompts[n].text!r})" for n in lacking])
        hint = f"; {matched.misnumbered}" if matched.misnumbered else ""
        summary = f" The folder has {matched.summary()}." if matched.summary() else ""
        remedy = f" {LEAVE_OUT}." if len(lacking) < len(part) else ""
        skip = self.selection.skips
        if within := folders_within(folder, prompts, part, self.layout, skip):
            which = "a folder within it matches" if len(within) == 1 else "folders within it match"
            paths = [str(path) for path in within]
            return BenchmarkDataError(
                f"{len(lacking)} of {len(part)} prompts have no image in {folder} itself, but "
                f"{which}: pass `images={paths}`"
            )
        return BenchmarkDataError(
            f"{len(lacking)} of {len(part)} prompts have no image in {folder}: {which}{hint}. Name "
            f"an image by its prompt's {by_id}number, as {example}.png, or {example}_0.png where "
            f"there are several, or by the prompt; or list file_name and prompt in a metadata.csv "
            f"beside the images.{summary}{remedy}"
        )

    @override
    def metrics(self, items: Sequence[Item], scores: Scores) -> Mapping[str, float]:
        return self.statistic(items, scores)(np.arange(len(items)))

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        columns = self._by_folder(items, scores)
        contrasts = _contrasts(columns)
        columns |= {f"{first} - {second}": of for (first, second), of in contrasts.items()}
        return lambda index: {
            name: mean_of_known(values[index]) for name, values in columns.items()
        }

    @override
    def contrasts(self, items: Sequence[Item], scores: Scores) -> Mapping[Contrast, FloatArray]:
        return _contrasts(self._by_folder(items, scores))

    def cells_by_folder(
        self, items: Sequence[Item], scores: Scores
    ) -> Mapping[str, Sequence[FloatArray]]:
        """Return the scores of each prompt's images, none or several, by the name of the metric."""
        flat = [np.ravel(item_scores).astype(np.float64) for item_scores in scores]
        folders = [np.array(item.labels["folder"]) for item in items]
        return {
            name: [cells[folder == k] for cells, folder in zip(flat, folders, strict=True)]
            for k, name in enumerate(_names(self.images))
        }

    def _by_folder(self, items: Sequence[Item], scores: Scores) -> dict[str, FloatArray]:
        """Return the mean score of each prompt's images (NaN without one), by folder name."""
        names = _names(self.images)
        if Items.of(items).once(_have_one_of_each, len(names)):  # as of nearly all large sets
            columns = CellArrays.of(scores).cells.astype(np.float64).reshape(-1, len(names))
            return dict(zip(names, np.ascontiguousarray(columns.T), strict=True))
        cells = self.cells_by_folder(items, scores)
        return {name: _means(listed) for name, listed in cells.items()}


def _have_one_of_each(items: Items, folders: int) -> bool:
    """Return whether each prompt has one image of each folder, in the order of the folders."""
    each = list(range(folders))
    return all(item.labels["folder"] == each for item in items)


def _means(listed: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of the known scores of each item; NaN without one."""
    return np.array([*map(mean_of_known, listed)])


def _contrasts(columns: Mapping[str, FloatArray]) -> dict[Contrast, FloatArray]:
    return {
        (first, second): values - other_values
        for (first, values), (second, other_values) in combinations(columns.items(), 2)
    }


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """Read how the images of a folder were generated; None without a ``recipe.json`` in it.

    Raises:
        BenchmarkDataError: the file holds no JSON object.

    >>> read_recipe(Path("no-such-folder")) is None
    True
    """
    path = folder / RECIPE
    if not path.exists():
        return None
    try:
        recipe = parse_json(read_text(path), path)
    except (OSError, TableError, RecursionError) as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}") from error
    if not isinstance(recipe, dict):
        raise BenchmarkDataError(
            f"{path} holds {type(recipe).__name__}, not a JSON object such as "
            '{"pipeline": "...", "seed": 0, "steps": 30}'
        )
    return recipe


def _names(folders: Sequence[Path]) -> list[str]:
    return ["score"] if len(folders) == 1 else _generator_names(folders)


def _edits(source: MediaLike, results: Sequence[MediaLike]) -> list[MediaLike]:
    return [Edit(source, result) for result in results]


def _generator_names(folders: Sequence[Path]) -> list[str]:
    names = [folder.name or folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
