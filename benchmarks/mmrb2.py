"""Multimodal RewardBench 2 (Hu et al. 2025): which of two images, or edits, did people choose?

    https://github.com/facebookresearch/MMRB2    folder benchmark
    ROOT/t2i.json                 {"pairs": [{"id", "prompt_content": [["text", ...]],
                                  "response_a": {"response_content": [["image", path]]},
                                  "response_b", "chosen": "A", "human_annotations": [6, 5, 6],
                                  "prompt_source", "prompt_metadata"}]}
    ROOT/images/...               the images by their paths, here or in ROOT
    ROOT/t2i_response_only.json   the same without prompts, which is in the repository
    ROOT/edit.json, ...           the same of edits, whose prompts also hold images, in
                                  ROOT/input_images

The authors' build_from_hf.py writes the first file, with the images, from a data set of the hub;
its own files were not seen, and are not read. An item is a pair. Of edits, it has
one source image and one image in each response, as the rows of the README's table with an asterisk;
others are left out. Tags are the source of the prompt, and how many of the three raters side with
the choice (4 to 6 of their scale favour A), which is that of the majority.

`read_results` reads the files that the authors' compute_accuracy.py reads,
{id: {"forward": [{"judgement": "A"}], "reverse": [...]}}, and computes the same accuracy: in the
reverse order the first image is that of B, an order without a judgement does not count, and any
text but A and B is a wrong verdict. It needs neither prompts nor images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MissingDataError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.inputs.media import Edit, MediaLike

from .forms.preference import BothOrdersForm
from .forms.published import Published, field, number, read_json

RESPONSES = ("response_a", "response_b")
ORDERS = ("forward", "reverse")


class Pair(NamedTuple):
    """A pair of responses, as the files have it.

    Attributes:
        name: its id.
        row: its object.
        where: the file and the pair, for messages.
        human: 1 for the response that people chose, and 0, in the order A, B.
        tags: the source, and how many raters side with the choice.
        prompt: the source and the metadata, which are the same for pairs of one prompt.

    >>> Pair("1", {}, "t2i.json, '1'", (1, 0), ("wise", "3 of 3 raters"), "wise 7").human
    (1, 0)
    """

    name: str
    row: Mapping[str, Any]
    where: str
    human: tuple[int, int]
    tags: tuple[str, ...]
    prompt: str


class MMRB2(Published, BothOrdersForm):
    """The pairs of a task in the published files in `root`.

    Args:
        task: the name of the task's files, "t2i" or "edit".
    """

    def __init__(self, *, task: str = "t2i", **options: Any) -> None:
        super().__init__(**options)
        self.task = task

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for pair in read_pairs(self.file(f"{self.task}.json")):
            named = [_content(pair, key, "image") for key in RESPONSES]
            if [len(names) for names in named] != [1, 1]:
                raise BenchmarkDataError(
                    f"{pair.where}: a response does not have exactly one image"
                )
            yield self._item(pair, [self.image_path(n, ".", "images") for [n] in named])

    @override
    def read_results(self, path: str | Path) -> tuple[Sequence[Item], Scores]:
        self.folder()
        results = read_json(Path(path), dict)
        items, scores = [], []
        for pair in read_pairs(self._labels()):
            for order in ORDERS:
                labels = {"human": list(pair.human), "pair": pair.name}
                name = f"{pair.name}, {order}"
                items.append(Item((), (), labels, pair.tags, id=name, group=pair.prompt))
                where = f"{path}, {pair.name!r}"
                right = _is_right(results.get(pair.name, {}), order, pair.human, where)
                chosen = np.array(pair.human, np.float32)[:, None]
                scores.append(1 - chosen if right == 0 else chosen * right)
        return items, scores

    @override
    def check(self) -> str:
        try:
            return super().check()
        except MissingDataError:
            self.folder()
            labelled = len([*read_pairs(self._labels())])
            return (
                f"the labels of {labelled} pairs, for files of results. To score images, too: "
                f"{self.remedy()}"
            )

    def _labels(self) -> Path:
        return self.file(f"{self.task}_response_only.json", f"{self.task}.json")

    def _item(self, pair: Pair, images: Sequence[MediaLike]) -> Item:
        texts = _content(pair, "prompt_content", "text")
        if not texts:
            raise BenchmarkDataError(f"{pair.where}: the prompt has no text")
        labels = {"human": list(pair.human)}
        return Item(images, ["\n".join(texts)], labels, pair.tags, id=pair.name, group=pair.prompt)


class MMRB2Edit(MMRB2):
    """The pairs of edits with one source image in the published files in `root`.

    Args:
        options: `task` of `MMRB2`, and others.
    """

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for pair in read_pairs(self.file(f"{self.task}.json")):
            sources = _content(pair, "prompt_content", "image")
            results = [_content(pair, key, "image") for key in RESPONSES]
            if [len(names) for names in (sources, *results)] != [1, 1, 1]:
                continue
            source = self.image_path(sources[0], ".", "input_images")
            edits = [Edit(source, self.image_path(n, ".", "images")) for [n] in results]
            yield self._item(pair, edits)


def read_pairs(path: Path) -> Iterator[Pair]:
    """Read the pairs of a task, with or without their prompts.

    Raises:
        BenchmarkDataError: the file is not as published.

    >>> import tempfile
    >>> row = {"id": "7", "chosen": "B", "human_annotations": [1, 2, 5], "prompt_source": "wise"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "t2i_response_only.json"
    ...     _ = path.write_text(json.dumps({"pairs": [row]}))
    ...     [(pair.human, pair.tags) for pair in read_pairs(path)]
    [((0, 1), ('wise', '2 of 3 raters'))]
    """
    for n, row in enumerate(field(read_json(path, dict), "pairs", list, str(path)), 1):
        name = field(row, "id", str, f"{path}, pair {n}")
        where = f"{path}, {name!r}"
        chosen = field(row, "chosen", str, where)
        if chosen not in ("A", "B"):
            raise BenchmarkDataError(f"{where}: 'chosen' is {chosen!r}, not A or B")
        votes = field(row, "human_annotations", list, where)
        favour_a = [number(vote, f"{where}: a vote", 1, 6) > 3.5 for vote in votes]
        agreeing = favour_a.count(chosen == "A")
        source = field(row, "prompt_source", str, where)
        yield Pair(
            name,
            row,
            where,
            (1, 0) if chosen == "A" else (0, 1),
            (source, f"{agreeing} of {len(votes)} raters"),
            f"{source} {json.dumps(row.get('prompt_metadata'), sort_keys=True)}",
        )


def _content(pair: Pair, key: str, kind: str) -> list[str]:
    """Return the texts, or the paths of the images, of a prompt or of a response."""
    row = pair.row
    if key in RESPONSES:
        row, key = field(row, key, dict, pair.where), "response_content"
    content = field(row, key, list, pair.where)
    for part in content:
        if not isinstance(part, list) or [type(value) for value in part] != [str, str]:
            raise BenchmarkDataError(
                f"{pair.where}: {part!r} is no kind of content and its content"
            )
    return [value for name, value in content if name == kind and value.strip()]


def _is_right(result: Any, order: str, human: Sequence[int], where: str) -> float:
    """Return whether the verdict on an order names the choice: 1 or 0, NaN without one."""
    if not isinstance(result, dict) or order in result:
        listed = field(result, order, list, where)
    else:
        listed = []
    first = listed[0] if listed else {}
    if not isinstance(first, dict):
        raise BenchmarkDataError(f"{where}, {order!r}: {first!r} is no object with a judgement")
    verdict = first.get("judgement")
    if not verdict:
        return math.nan
    sides = "AB" if order == "forward" else "BA"
    return float(verdict == sides[human.index(1)])
