"""Match the images of a folder to the prompts of a set.

Folders are written by the set's own scripts, by other scripts and by hand. For each image these
rules are tried in order, and the first that matches decides:

1. a file in the folder: metadata.jsonl or metadata.csv with file_name and text (or prompt,
   caption), as in data sets of the Hugging Face hub; imgs.json with the id of each prompt, as TIFA
   writes it
2. the layout of the set's own scripts (GenEval's and others' are in `prompt_sets.py`)
3. the name of the image, or of its folder: the prompt itself; its letters and digits, whatever
   separates them; an id of the set; a number; the beginning of a prompt

A sample number may follow any of these names (_3, -3, " (3)", _seed42), and a number may precede a
prompt. A name that is both a number and a prompt is read as the prompt, unless the other names of
the folder are numbers that are no prompts. Folders of runs (seed_0, or a number that holds images
of most prompts) name no prompt.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from t2v_eval.errors import BenchmarkDataError, TableError
from t2v_eval.evaluation.selection import FolderFacts, first_few
from t2v_eval.inputs.folders import IMAGES, files_in
from t2v_eval.inputs.tables import read_table
from t2v_eval.utils.text_file import read_text

from .prompt_names import NUMBERED, AmbiguousError, Names, Prompt, same

SYSTEM = {
    "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle",
    "Network Trash Folder", "Temporary Items", "__pycache__",
}  # fmt: skip
BY_PROMPT = (
    "by prompt",
    "by the ",
)  # how the rules begin that match a name to the text of a prompt
SAMPLES = "samples"  # the folder of single images, beside grids of them
UNNAMED: tuple[tuple[str, ...], ...] = ((), (SAMPLES,))  # folders of images that name no run
RUN = re.compile(r"(seed|run)[ _=-]?[0-9]+", re.IGNORECASE)  # a folder with each prompt once
MOST_SAMPLES = 64  # of one prompt; a number with images of more prompts is that of a run
MOST_FOLDERS = 50  # that are tried where a folder itself holds no images of the prompts
GRID = re.compile(r"grid([ _-]?\d+)*", re.IGNORECASE)
TEXTS = ("text", "prompt", "caption")


class Layout(Protocol):
    """The layout of a set's own scripts: maps the parts of a path to a rule and prompt numbers.

    Returns None where the layout does not cover an image, and no numbers for one to ignore.

    >>> def layout(parts, names):
    ...     return ("in my layout", [int(parts[0])]) if len(parts) == 2 else None
    >>> layout(("00012", "0.png"), Names([]))
    ('in my layout', [12])
    """

    def __call__(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """Return the rule and the numbers of the prompts of an image with these parts of a path."""


@dataclass(slots=True)
class FolderMatch:
    """The images of each prompt, counts of images by rule, and what was ignored and why.

    >>> FolderMatch([[]], rules=Counter({"by prompt": 2})).summary()
    '2 images by prompt'
    """

    images: list[list[Path]]
    rules: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    names: list[str] = field(default_factory=list)  # that were matched by name
    owners: dict[str, int] = field(default_factory=dict)  # prompt numbers by folder
    by_prompt: set[int] = field(default_factory=set)  # prompts that name their images
    misnumbered: str = ""  # how the numbers in names differ from those of the prompts
    shared: list[str] = field(default_factory=list)  # ids of prompts with an equal one's images

    def summary(self) -> str:
        """Return in a sentence how the folder was read."""
        by = [f"{n} {'image' if n == 1 else 'images'} {rule}" for rule, n in self.rules.items()]
        ignored = [
            f"{len(names)} {'file' if len(names) == 1 else 'files'} ignored ({why}): "
            f"{first_few(names)}"
            for why, names in self.ignored.items()
        ]
        twice = [f"of {first_few(self.shared)} as of the prompt that is the same"] * bool(
            self.shared
        )
        return "; ".join([*by, *twice, *ignored])

    def facts(self, folder: str, prompts: int, prompts_of_all: int) -> FolderFacts:
        """Return the same for a report, with the folder's name and its numbers of prompts."""
        ignored = {why: len(names) for why, names in self.ignored.items()}
        return FolderFacts(folder, prompts, prompts_of_all, dict(self.rules), ignored)


def match(
    folder: Path, prompts: Sequence[Prompt], layout: Layout | None = None, skip: bool = False
) -> FolderMatch:
    """Match the images of a folder to prompts.

    Args:
        folder: a folder of images, directly or in sub-folders.
        prompts: the prompts of the set, in its order.
        layout: the layout of the set's own scripts.
        skip: leave out images whose name matches several different prompts.

    Raises:
        BenchmarkDataError: there is no such folder; a name matches several different prompts; a
            prompt's folder holds the metadata of another prompt.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a cat.png").write_bytes(b"")
    ...     matched = match(Path(folder), [Prompt("0", "a cat"), Prompt("1", "a dog")])
    ...     [[path.name for path in images] for images in matched.images]
    [['a cat.png'], []]
    """
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.is_file() else f"there is no folder {folder}"
        several = str(folder).split(",")
        folders = several if len(several) > 1 and all(map(os.path.isdir, several)) else None
        argument = (
            f"each folder, `images={folders}`" if folders else "a folder of images as `images=`"
        )
        raise BenchmarkDataError(f"{what}; pass {argument}")
    matched = FolderMatch([[] for _ in prompts])
    names = Names(prompts)
    paths = list(_image_paths(folder, matched))
    runs = _runs(folder, paths, names)
    generic = _match_annotated_and_layout(folder, paths, layout, names, matched, runs, skip)
    matched.names = list(dict.fromkeys(generic.values()))
    sampled = {parts[0] for path in paths if SAMPLES in (parts := parts_of(path, folder))[1:-1]}
    _match_names(folder, generic, names, sampled, matched, runs, skip)
    matched.misnumbered = _misnumbered(folder, paths, names, matched, runs)
    _share_images(matched, names)
    _check_annotated_prompts(folder, prompts, matched.owners)
    for images in matched.images:
        images.sort()
    return matched


def image_names(folder: Path) -> list[str]:
    """Return the names that the images of a folder may be matched by: theirs, or of their folders.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "00007").mkdir()
    ...     for name in ("00007/0.png", "1.png"):
    ...         _ = (Path(folder) / name).write_bytes(b"")
    ...     image_names(Path(folder))
    ['1', '00007']
    """
    paths = list(_image_paths(folder, FolderMatch([])))
    inner = [inner_folders(parts_of(path, folder)) for path in paths]
    names = [ins[0] if ins else path.stem for ins, path in zip(inner, paths, strict=True)]
    return list(dict.fromkeys(names))


def folders_within(
    folder: Path,
    prompts: Sequence[Prompt],
    needed: Sequence[int],
    layout: Layout | None = None,
    skip: bool = False,
) -> list[Path]:
    """Return the folders one or two levels below `folder` that hold the images it should hold.

    Args:
        folder: holds no images of the prompts as it is.
        prompts: the prompts of the set, in its order.
        needed: the numbers of the prompts whose images are looked for; with `skip`, some suffice.
        layout: the layout of the set's own scripts.
        skip: as for `match`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "images").mkdir()
    ...     _ = (Path(folder) / "images" / "a cat.png").write_bytes(b"")
    ...     [path.name for path in folders_within(Path(folder), [Prompt("0", "a cat")], [0])]
    ['images']
    """
    level = [folder]
    for _ in range(2):
        inner = [path for above in level for path in above.iterdir() if path.is_dir()]
        level = sorted(path for path in inner if not _is_system(path.name))[:MOST_FOLDERS]
        complete = []
        for path in level:
            with suppress(BenchmarkDataError):
                images = match(path, prompts, layout, skip).images
                if (any if skip else all)(images[n] for n in needed):
                    complete.append(path)
        if complete:
            return complete
    return []


def _is_system(folder: str) -> bool:
    return folder.startswith(".") or folder in SYSTEM


def _match_annotated_and_layout(
    folder: Path,
    paths: Sequence[Path],
    layout: Layout | None,
    names: Names,
    matched: FolderMatch,
    runs: Collection[str],
    skip: bool,
) -> dict[Path, str]:
    """Match images by metadata files and by layout; return the names of the others to match by."""
    annotated = _annotated_prompts(folder, paths, names)
    generic: dict[Path, str] = {}
    for path in paths:
        parts = parts_of(path, folder)
        if path in annotated:
            rule, numbers = annotated[path]
            if numbers:
                _add_image(matched, path, rule, numbers)
            else:
                matched.ignored[f"{rule} it is of no prompt of the set"].append("/".join(parts))
        elif (
            layout is not None
            and (by_layout := _find_prompts(partial(layout, parts, names), path, skip)) is not None
        ):
            rule, numbers = by_layout
            if not numbers:
                matched.ignored[rule].append("/".join(parts))
                continue
            _add_image(matched, path, rule, numbers)
            if len(parts) > 1 and numbered(parts[0]) is not None:
                matched.owners[parts[0]] = numbers[0]
        else:
            inside = inner_folders(parts, runs)
            generic[path] = inside[0] if inside else path.stem
    return generic


def _match_names(
    folder: Path,
    generic: Mapping[Path, str],
    names: Names,
    sampled: set[str],
    matched: FolderMatch,
    runs: Collection[str],
    skip: bool,
) -> None:
    """Match the remaining images by the names of files and folders.

    Args:
        folder: the folder of the images.
        generic: the name to match by for each image.
        names: finds prompts by name.
        sampled: folders that hold a folder of samples, beside which grids are ignored.
        matched: takes the result.
        runs: numbers of runs, as folders.
        skip: leave out images whose name matches several different prompts.
    """
    prompt_first = names.prompts_first(matched.names)
    for path, name in generic.items():
        parts = parts_of(path, folder)
        relative = "/".join(parts)
        by_name = _find_prompts(partial(names.find, name, prompt_first), path, skip)
        inside = inner_folders(parts, runs)
        if by_name is not None and not by_name[1]:
            matched.ignored[by_name[0]].append(relative)
        elif by_name is None:
            grid = GRID.fullmatch(path.stem) or "-grid-" in path.stem
            matched.ignored["a grid" if grid else "of no prompt of the set"].append(relative)
        elif len(parts) > 1 and parts[0] in sampled and SAMPLES not in parts[1:-1]:
            matched.ignored[f"beside {SAMPLES}/"].append(relative)
        elif inside and GRID.fullmatch(path.stem):
            matched.ignored["a grid"].append(relative)
        else:
            of_run = not inside and parts[:-1] not in UNNAMED
            where = ", as a folder" * bool(inside) + ", in the folder of a run" * of_run
            _add_image(matched, path, f"{by_name[0]}{where}", by_name[1])
            if inside:
                matched.owners[inside[0]] = by_name[1][0]


def parts_of(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the parts of an image's path below a folder, with folders of samples in lower case.

    >>> parts_of(Path("a/00012/Samples/0.png"), Path("a"))
    ('00012', 'samples', '0.png')
    """
    *folders, name = path.relative_to(folder).parts
    return (*(SAMPLES if part.lower() == SAMPLES else part for part in folders), name)


def inner_folders(parts: Sequence[str], runs: Collection[str] = ()) -> list[str]:
    """Return the folders of an image that may name its prompt.

    Args:
        parts: the parts of the image's path.
        runs: numbers of runs, as folders of the first level.

    >>> inner_folders(["seed_0", "00012", "samples", "3.png"])
    ['00012']
    """
    inner = parts[1:-1] if len(parts) > 1 and parts[0] in runs else parts[:-1]
    return [part for part in inner if part != SAMPLES and not RUN.fullmatch(part)]


def _runs(folder: Path, paths: Sequence[Path], names: Names) -> set[str]:
    """Return the folders that are numbers and hold images named by most prompts."""
    prompts_in: dict[str, set[int]] = defaultdict(set)
    for path in paths:
        parts = parts_of(path, folder)
        if len(parts) == 2 and numbered(parts[0]) is not None:
            with suppress(AmbiguousError):
                prompts_in[parts[0]].update((names.find(path.stem) or ("", []))[1])
    limit = _most_samples(len(prompts_in), names)
    return {name for name, numbers in prompts_in.items() if len(numbers) > limit}


def _most_samples(numbers: int, names: Names) -> int:
    """Return how many samples of a prompt there may be, where so many numbers have samples."""
    return max(MOST_SAMPLES, numbers, len(names.prompts) // 2)


def _find_prompts(
    find: Callable[[], tuple[str, list[int]] | None], path: Path, skip: bool
) -> tuple[str, list[int]] | None:
    """Return what `find` does; with `skip`, no prompts for a name that matches several."""
    try:
        return find()
    except AmbiguousError as error:
        if skip:
            return "may be of several prompts", []
        raise BenchmarkDataError(f"{path} {error}") from None


def _share_images(matched: FolderMatch, names: Names) -> None:
    """Share images among equal prompts where images are named by their prompt.

    Files named by their prompt exist once for a prompt that occurs twice in the set.
    """
    for n, prompt in enumerate(names.prompts):
        if not matched.images[n]:
            twins = (k for k in names.by_text(prompt.text, exact=False) if k in matched.by_prompt)
            if (twin := next(twins, None)) is not None:
                matched.images[n] = list(matched.images[twin])
                matched.shared.append(prompt.id)


def _add_image(matched: FolderMatch, path: Path, rule: str, numbers: Sequence[int]) -> None:
    matched.rules[rule] += 1
    if rule.startswith(BY_PROMPT):
        matched.by_prompt.update(numbers)
    for n in numbers:
        matched.images[n].append(path)


def _image_paths(folder: Path, matched: FolderMatch) -> Iterator[Path]:
    """Yield the images below a folder in order, without those of operating systems."""

    def refuse(error: OSError) -> None:
        raise BenchmarkDataError(
            f"{error.filename} cannot be read: {error.strerror}; allow reading it, or move it away"
        ) from error

    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        here = Path(place)
        way = [here, *here.parents][: len(here.relative_to(folder).parts) + 1]
        above = {*(step.resolve() for step in way), *folder.resolve().parents}
        for name in list(folders):
            system = _is_system(name)
            if system or (here / name).resolve() in above:  # a link to a parent folder
                folders.remove(name)
                if system:
                    matched.ignored["of the system"] += [
                        path.relative_to(folder).as_posix()
                        for path in sorted((here / name).rglob("*"))
                        if path.suffix.lower() in IMAGES and path.is_file()
                    ]
        folders.sort()
        for name in sorted(files):
            if not name.lower().endswith(IMAGES):
                continue
            if name.startswith("."):
                matched.ignored["of the system"].append(
                    (here / name).relative_to(folder).as_posix()
                )
            elif (here / name).is_file():
                yield here / name
    if not matched.ignored["of the system"]:
        del matched.ignored["of the system"]


def _annotated_prompts(
    folder: Path, paths: Sequence[Path], names: Names
) -> dict[Path, tuple[str, list[int]]]:
    """Return the rule and prompt numbers (maybe none) of images that metadata files name."""
    annotated: dict[Path, tuple[str, list[int]]] = {}
    known_paths = set(paths)
    for path in files_in(folder, "*imgs.json"):
        content = _json(path)
        for name, value in content.items() if isinstance(content, dict) else ():
            for place in (folder / str(value), folder / Path(str(value)).name):
                if place in known_paths:
                    annotated[place] = f"by {path.name}", names.by_id(str(name))
                    break
    for place in dict.fromkeys([folder, *(path.parent for path in paths)]):
        for name in ("metadata.jsonl", "metadata.csv"):
            if not (place / name).is_file():
                continue
            try:
                first = _json(place / name) if name.endswith(".jsonl") else {"file_name": ""}
                if not isinstance(first, dict) or "file_name" not in first:
                    continue  # metadata of a prompt, not of images
                rows = read_table(place / name)
            except TableError as error:
                raise BenchmarkDataError(
                    f"{error}; it should hold file_name and text of images"
                ) from error
            for row in rows:
                text = next((row[key] for key in TEXTS if row.get(key)), None)
                if row.get("file_name") and isinstance(text, str):
                    annotated[place / str(row["file_name"])] = f"by {name}", names.by_text(text)
    return annotated


def _check_annotated_prompts(
    folder: Path, prompts: Sequence[Prompt], owners: Mapping[str, int]
) -> None:
    """Raise where the metadata.jsonl of a prompt's folder names another prompt than its number."""
    for name, n in owners.items():
        path = folder / name / "metadata.jsonl"
        if not path.is_file():
            continue
        content = _json(path)
        text = content.get("prompt") if isinstance(content, dict) else None
        if isinstance(text, str) and not same(text, prompts[n].text):
            raise BenchmarkDataError(
                f"{path}: its prompt is {text!r}, but prompt {name} of the set is "
                f"{prompts[n].text!r}; the images were generated from another list of prompts"
            )


def _json(path: Path) -> Any:
    """Read a JSON file, or the first line of a JSON Lines file."""
    try:
        return json.JSONDecoder().raw_decode(read_text(path).strip())[0]
    except TableError as error:
        raise BenchmarkDataError(str(error)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}") from error


def numbered(folder: str) -> int | None:
    """Return the number that a folder is named by, or None.

    >>> numbered("00012"), numbered("seed_0")
    (12, None)
    """
    return int(folder) if re.fullmatch(r"[0-9]+", folder) else None


def _misnumbered(
    folder: Path,
    paths: Sequence[Path],
    names: Names,
    matched: FolderMatch,
    runs: Collection[str],
) -> str:
    """Return how numbers in names seem to be none of prompts; "" where they may be.

    They seem to start at 1 where 0 is not there, and the number behind the last prompt is. A number
    in front seems to be that of a run where most prompts' numbers follow it.
    """
    owners = {path: n for n, images in enumerate(matched.images) for path in images}
    numbers: dict[tuple[str, ...], dict[int, int | None]] = defaultdict(dict)
    behind: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        parts = parts_of(path, folder)
        levels = [*inner_folders(parts, runs), path.stem]
        matches = ((k, NUMBERED.fullmatch(name)) for k, name in enumerate(levels))
        k, match = next(((k, match) for k, match in matches if match), (0, None))
        if match is None:
            continue
        of_prompt, number = numbers[tuple(levels[:k])], int(match[1])
        if of_prompt.get(number) is None:
            of_prompt[number] = owners.get(path)
        if two := re.fullmatch(r"([0-9]+)[ _-]([0-9]+)", levels[k]):
            behind[two[1]].add(two[2])
    for of_prompt in numbers.values():
        rows = [n for n in of_prompt.values() if n is not None]
        beyond = [number for number in of_prompt if of_prompt[number] is None]
        if rows and len(beyond) == 1 and 0 not in of_prompt and beyond[0] in _sizes(rows, names):
            return f"numbers start at 0, and these seem to start at 1, as there is {beyond[0]}"
    limit = _most_samples(len(behind), names)
    if run := next((number for number, second in behind.items() if len(second) > limit), None):
        return (
            f"a name begins with the prompt's number, and {run} stands before {len(behind[run])} "
            f"others, as that of a run: move such images into a folder seed_{run}"
        )
    return ""


def _sizes(rows: Sequence[int], names: Names) -> set[int]:
    """Return how many prompts there are, and of the tags that all prompts of `rows` have."""
    tags = set.intersection(*(set(names.prompts[n].tags) for n in rows))
    counts = Counter(tag for prompt in names.prompts for tag in set(prompt.tags) & tags)
    return {len(names.prompts), *counts.values()}
