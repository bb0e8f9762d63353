"""Which image of a folder belongs to which prompt of a set.

Folders come from the sets' own scripts, from those of others, and from people. An image is asked
about in this order, and the first answer counts:

    what a file in the folder says of it: metadata.jsonl or metadata.csv with file_name and text (or
    prompt, caption), as data sets of the Hugging Face hub have it; imgs.json, as TIFA has it, with
    the id of each prompt
    the layout of the set's own scripts
    its name, or that of its folder: the prompt itself; its letters and digits, whatever stands
    between them; an id of the set; a number; the beginning of a prompt

A number of its own may stand behind any of these (_3, -3, " (3)", _seed42), one more in front of a
prompt. Where a name is a number and a prompt too, it is the prompt, unless the other names of the
folder are numbers that are no prompts.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from t2v_eval.errors import BenchmarkDataError, TableError
from t2v_eval.evaluation.selection import first_few
from t2v_eval.inputs.tables import read_table

from .prompt_names import NUMBERED, AmbiguousError, Names, Prompt, same

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif")
SYSTEM = {
    "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle",
    "Network Trash Folder", "Temporary Items", "__pycache__",
}  # fmt: skip
BY_PROMPT = ("by prompt", "by the ")  # how rules begin by which a name is a prompt
SAMPLES = "samples"  # where scripts put the images themselves, beside grids of them
GRID = re.compile(r"grid([ _-]?\d+)*", re.IGNORECASE)
TEXTS = ("text", "prompt", "caption")


class Layout(Protocol):
    """How a set's own scripts call images: the rule and the prompts of one, by its path's parts.

    None where it says nothing of an image, and no prompts where it leaves one alone.
    """

    def __call__(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None: ...


@dataclass(slots=True)
class Matched:
    """The images of each prompt, how many each rule matched, and what was left alone and why."""

    images: list[list[Path]]
    rules: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    names: list[str] = field(default_factory=list)  # that were looked for among prompts
    owners: dict[str, int] = field(default_factory=dict)  # folders that are a prompt's
    by_prompt: set[int] = field(default_factory=set)  # prompts that images are called by
    shared: list[str] = field(default_factory=list)  # ids of prompts with another's images

    def told(self) -> str:
        """How the folder was read, in a sentence."""
        by = [f"{n} {'image' if n == 1 else 'images'} {rule}" for rule, n in self.rules.items()]
        left = [
            f"{len(names)} {'file' if len(names) == 1 else 'files'} ignored ({why}): "
            f"{first_few(names)}"
            for why, names in self.ignored.items()
        ]
        twice = [f"of {first_few(self.shared)} as of the prompt that is the same"] * bool(
            self.shared
        )
        return "; ".join([*by, *twice, *left])

    def facts(self) -> dict[str, Any]:
        """The same as data."""
        ignored = {why: len(names) for why, names in self.ignored.items()}
        return {"rules": dict(self.rules), "ignored": ignored}


def match(folder: Path, prompts: Sequence[Prompt], layout: Layout | None = None) -> Matched:
    """The images of each prompt.

    Raises:
        BenchmarkDataError: there is no such folder; a name may stand for several prompts; what a
            folder of a prompt says of its prompt is another.
    """
    if not folder.is_dir():
        raise BenchmarkDataError(f"there is no folder {folder}; --images names one of images")
    found = Matched([[] for _ in prompts])
    names = Names(prompts)
    paths = list(_image_paths(folder, found))
    said = _said(folder, paths, names)
    generic: dict[Path, str] = {}
    for path in paths:
        parts = path.relative_to(folder).parts
        if path in said:
            rule, numbers = said[path]
            if numbers:
                _add(found, path, rule, numbers)
            else:
                found.ignored[f"{rule} it is of no prompt of the set"].append("/".join(parts))
        elif layout is not None and (own := _own(layout, parts, names, path)) is not None:
            rule, numbers = own
            if not numbers:
                found.ignored[rule].append("/".join(parts))
                continue
            _add(found, path, rule, numbers)
            if len(parts) > 1 and numbered(parts[0]) is not None:
                found.owners[parts[0]] = numbers[0]
        else:
            inside = [part for part in parts[:-1] if part != SAMPLES]
            generic[path] = inside[0] if inside else path.stem
    found.names = list(dict.fromkeys(generic.values()))
    sampled = {
        parts[0] for path in paths if SAMPLES in (parts := path.relative_to(folder).parts)[1:-1]
    }
    _by_name(folder, generic, names, sampled, found)
    _share(found, names)
    _check_said_prompts(folder, prompts, found.owners)
    for of in found.images:
        of.sort()
    return found


def _by_name(
    folder: Path, generic: Mapping[Path, str], names: Names, sampled: set[str], found: Matched
) -> None:
    """Match what is left by names of files and of folders; `sampled` have a folder of samples."""
    prompt_first = names.prompts_first(found.names)
    for path, name in generic.items():
        parts = path.relative_to(folder).parts
        shown = "/".join(parts)
        try:
            own = names.find(name, prompt_first)
        except AmbiguousError as error:
            raise BenchmarkDataError(f"{path} {error}") from None
        if own is None:
            grid = GRID.fullmatch(path.stem) or "-grid-" in path.stem
            found.ignored["a grid" if grid else "of no prompt of the set"].append(shown)
        elif len(parts) > 1 and parts[0] in sampled and SAMPLES not in parts[1:-1]:
            found.ignored[f"beside {SAMPLES}/"].append(shown)
        elif len(parts) > 1 and parts[0] != SAMPLES and GRID.fullmatch(path.stem):
            found.ignored["a grid"].append(shown)
        else:
            inside = len(parts) > 1 and parts[0] != SAMPLES
            _add(found, path, f"{own[0]}, as a folder" if inside else own[0], own[1])
            if inside:
                found.owners[parts[0]] = own[1][0]


def _own(
    layout: Layout, parts: Sequence[str], names: Names, path: Path
) -> tuple[str, list[int]] | None:
    try:
        return layout(parts, names)
    except AmbiguousError as error:
        raise BenchmarkDataError(f"{path} {error}") from None


def _share(found: Matched, names: Names) -> None:
    """Give prompts without an image those of a prompt that is the same, where names are prompts.

    Files that are called by their prompts lose all but one of those that occur twice.
    """
    for n, prompt in enumerate(names.prompts):
        if not found.images[n]:
            twins = (k for k in names.by_text(prompt.text, exact=False) if k in found.by_prompt)
            if (twin := next(twins, None)) is not None:
                found.images[n] = list(found.images[twin])
                found.shared.append(prompt.id)


def _add(found: Matched, path: Path, rule: str, numbers: Sequence[int]) -> None:
    found.rules[rule] += 1
    if rule.startswith(BY_PROMPT):
        found.by_prompt.update(numbers)
    for n in numbers:
        found.images[n].append(path)


def _image_paths(folder: Path, found: Matched) -> Iterator[Path]:
    """The images below a folder, in order; files of operating systems and notebooks are none."""
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {here.resolve(), *here.resolve().parents}
        for name in list(folders):
            system = name.startswith(".") or name in SYSTEM
            if system or (here / name).resolve() in above:  # a link to a folder that it is in
                folders.remove(name)
                if system:
                    found.ignored["of the system"] += [
                        path.relative_to(folder).as_posix()
                        for path in sorted((here / name).rglob("*"))
                        if path.suffix.lower() in ENDINGS and path.is_file()
                    ]
        folders.sort()
        for name in sorted(files):
            if not name.lower().endswith(ENDINGS):
                continue
            if name.startswith("."):
                found.ignored["of the system"].append((here / name).relative_to(folder).as_posix())
            elif (here / name).is_file():
                yield here / name
    if not found.ignored["of the system"]:
        del found.ignored["of the system"]


def _said(folder: Path, paths: Sequence[Path], names: Names) -> dict[Path, tuple[str, list[int]]]:
    """What files beside images say of them: the rule, and the prompts, which may be none."""
    said: dict[Path, tuple[str, list[int]]] = {}
    there = set(paths)
    for path in sorted(folder.glob("*imgs.json")):
        content = _json(path)
        for name, value in content.items() if isinstance(content, dict) else ():
            for place in (folder / str(value), folder / Path(str(value)).name):
                if place in there:
                    said[place] = f"by {path.name}", names.by_id(str(name))
                    break
    for place in dict.fromkeys([folder, *(path.parent for path in paths)]):
        for name in ("metadata.jsonl", "metadata.csv"):
            if not (place / name).is_file():
                continue
            try:
                if name.endswith(".jsonl") and "file_name" not in _json(place / name):
                    continue  # of a prompt, not of images
                rows = read_table(place / name)
            except TableError as error:
                raise BenchmarkDataError(f"{error}; it should say what images show") from error
            for row in rows:
                text = next((row[key] for key in TEXTS if row.get(key)), None)
                if row.get("file_name") and isinstance(text, str):
                    said[place / str(row["file_name"])] = f"by {name}", names.by_text(text)
    return said


def _check_said_prompts(folder: Path, prompts: Sequence[Prompt], owners: Mapping[str, int]) -> None:
    """Raise where the metadata.jsonl of a prompt's folder names another prompt than its number."""
    for name, n in owners.items():
        path = folder / name / "metadata.jsonl"
        if not path.is_file():
            continue
        content = _json(path)
        text = content.get("prompt") if isinstance(content, dict) else None
        if isinstance(text, str) and not same(text, prompts[n].text):
            raise BenchmarkDataError(
                f"{path} says that its images are of {text!r}, but prompt {name} of the set is "
                f"{prompts[n].text!r}: they were made of another list of prompts"
            )


def _json(path: Path) -> Any:
    """The content of a JSON file, or of the first line of one with a value a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig")
        return json.JSONDecoder().raw_decode(lines.strip())[0]
    except (OSError, ValueError) as error:
        raise BenchmarkDataError(f"{path} cannot be read: {error}") from error


def numbered(folder: str) -> int | None:
    """The number that a folder's name is."""
    return int(folder) if re.fullmatch(r"[0-9]+", folder) else None


def looks_from_one(names: Sequence[str], count: int) -> bool:
    """Whether the numbers in names seem to start at 1."""
    own = [int(number[1]) for name in names if (number := NUMBERED.fullmatch(name))]
    return count in own and 0 not in own
