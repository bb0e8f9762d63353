"""Sets of prompts: how well do the pictures that a generator made of them show what they say?

`images` is a folder of pictures, or several, one for each generator. A picture belongs to a prompt

    by its number in the set, from 0, with or without zeros in front: 12.png, 00012.jpg
    with a number of its own behind it: 00012_3.png, 00012-3.png
    in a folder of that number: 00012/anything.png, 00012/samples/0003.png
    by its id in the set, or by the prompt with other characters than letters and digits as "_":
    a_red_cube_on_a_blue_ball.png, again with _3 or -3 behind it; cut after 100 characters or more

A prompt may have several pictures, whose scores are averaged; one without any is an error.

`score` is the mean over prompts. With several folders there is one such mean for each, by the
folder's name, and for each two of them their difference, prompt by prompt: paired, so that its
interval has none of what makes prompts hard. Whether it is more than chance is a test of the signs
of these differences, overall and for each category, corrected for all categories.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from t2v_eval.benchmark import Contrast, Item, Scores
from t2v_eval.bootstrap import Statistic
from t2v_eval.errors import BenchmarkDataError
from t2v_eval.values import FloatArray, mean_of_known

from ._published import PICTURES, Published

SHORTEST = 100  # characters of a prompt that a file's name keeps at least, if it is cut


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a set."""

    id: str
    text: str
    tags: tuple[str, ...] = ()


class PromptsForm(Published):
    """Subclasses write `prompts`.

    Args:
        images: the folder of pictures, or several.
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

    def check(self) -> str:
        if self.images or self.root is None:
            return super().check()
        return f"{len(list(self.prompts(self.root)))} prompts"

    def read(self, folder: Path) -> Iterator[Item]:
        prompts = list(self.prompts(folder))
        if not self.images:
            raise BenchmarkDataError(
                f"{self.name} is a set of {len(prompts)} prompts: pass the folder of the pictures "
                "that were made of them with --images (images=), once for each generator"
            )
        found = [_match(pictures, prompts) for pictures in self.images]
        for n, prompt in enumerate(prompts):
            own = [of[n] for of in found]
            yield Item(
                images=[str(path) for paths in own for path in paths],
                texts=[prompt.text],
                labels={"folder": [k for k, paths in enumerate(own) for _ in paths]},
                tags=prompt.tags,
                id=prompt.id,
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
        """The mean score of each prompt's pictures, for each folder by its name."""
        found = {name: np.full(len(items), np.nan) for name in _names(self.images)}
        for n, (item, one) in enumerate(zip(items, scores, strict=True)):
            cells, folder = np.ravel(one).astype(np.float64), np.array(item.labels["folder"])
            for k, means in enumerate(found.values()):
                means[n] = mean_of_known(cells[folder == k])
        return found


def _match(folder: Path, prompts: Sequence[Prompt]) -> list[list[Path]]:
    """The pictures of each prompt."""
    if not folder.is_dir():
        raise BenchmarkDataError(f"there is no folder {folder}; --images names one of pictures")
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES and path.is_file():
            parts = path.relative_to(folder).parts
            name = parts[0] if len(parts) > 1 else path.stem
            by_name.setdefault(name, []).append(path)
    found: list[list[Path]] = [[] for _ in prompts]
    names = _Names(prompts)
    for name, paths in by_name.items():
        n = names.find(name)
        if n is not None:
            found[n] += paths
    missing = [n for n, paths in enumerate(found) if not paths]
    if missing:
        first = missing[0]
        called = f"{prompts[first].id if prompts[first].id.isdigit() else first:0>5}"
        after = re.compile(rf"0*{len(prompts)}([_-]\d+)?")
        hint = "; numbers start at 0, and these seem to start at 1"
        raise BenchmarkDataError(
            f"{len(missing)} of {len(prompts)} prompts have no picture in {folder}, the first is "
            f"{prompts[first].id}, {prompts[first].text!r}"
            f"{hint if first == 0 and any(map(after.fullmatch, by_name)) else ''}. A picture is "
            f"called by its prompt's number, as {called}.png, or {called}_0.png where there are "
            "several"
        )
    return found


class _Names:
    """Which prompt a file's or folder's name stands for."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        # Numbers that a set gives its prompts itself come before their places in it.
        own = all(prompt.id.isdigit() for prompt in prompts)
        self._numbers = {int(p.id) if own else n: n for n, p in enumerate(prompts)}
        self._texts = {_plain(prompt.text): n for n, prompt in enumerate(prompts)}
        self._texts |= {_plain(prompt.id): n for n, prompt in enumerate(prompts)}

    def find(self, name: str) -> int | None:
        numbered = re.fullmatch(r"0*(\d+)(?:[_-]\d+)?", name)
        if numbered:
            return self._numbers.get(int(numbered[1]))
        plain = _plain(name)
        for candidate in (plain, re.sub(r"_\d+$", "", plain)):
            if candidate in self._texts:
                return self._texts[candidate]
            if len(candidate) >= SHORTEST:
                longer = {n for text, n in self._texts.items() if text.startswith(candidate)}
                if len(longer) == 1:
                    return longer.pop()
        return None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _names(folders: Sequence[Path]) -> list[str]:
    if len(folders) == 1:
        return ["score"]
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
