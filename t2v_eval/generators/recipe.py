"""What lies beside the images of a generator: how they were made, and of which prompts.

    recipe.json    the recipe: all that decides the images
    images.jsonl   a line for each image: file, prompt and seed, and why it is missing where it is

A folder holds the images of one recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from t2v_eval.errors import OutputError, T2VError
from t2v_eval.generators.plan import PlannedImage
from t2v_eval.inputs.folders import IMAGES, files_in
from t2v_eval.utils.files import write_text
from t2v_eval.utils.text_file import read_text

RECIPE, LIST = "recipe.json", "images.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides the images of a folder, as JSON; None stands for the generator's own.

    Attributes:
        prompts_sha256: the hash of names and prompts; see `hash_prompts`.
        seed: the seed of the whole set.
        per_prompt: the number of images of each prompt.
        benchmark: the name of the prompts.
        pipeline: the generator.
        revision: its commit on the hub, or the hash of its files.
        steps: the number of steps.
        guidance_scale: the weight of the prompt.
        height: pixels.
        width: pixels.
        options: further options.
        device: the kind of device.
        dtype: the precision.
        packages: versions of the packages that compute images.
        more: other facts of a generator, by name.

    >>> first = Recipe(prompts_sha256="", seed=0, per_prompt=1, steps=20)
    >>> first.differences(Recipe(prompts_sha256="", seed=0, per_prompt=1, steps=30).as_dict())
    ['steps was 30 and is 20']
    """

    prompts_sha256: str
    seed: int
    per_prompt: int
    benchmark: str = ""
    pipeline: str = ""
    revision: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of recipe.json."""
        facts = asdict(self)
        return {"version": 1, **facts.pop("more"), **facts}

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return what the recipe of a folder has otherwise.

        Args:
            other: the content of its recipe.json.
        """
        facts = json.loads(json.dumps(self.as_dict()))
        keys = [key for key in facts | dict(other) if key != "benchmark"]
        return [
            "the prompts are others"
            if key == "prompts_sha256"
            else f"{key} was {_plain(other.get(key))} and is {_plain(facts.get(key))}"
            for key in keys
            if facts.get(key) != other.get(key)
        ]


def begin(folder: Path, recipe: Recipe) -> None:
    """Write the recipe into a folder without images, or check that the folder has the same.

    Args:
        folder: exists and can be written.
        recipe: of the images to make.

    Raises:
        OutputError: the folder has another recipe, or images without one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     begin(Path(folder), Recipe(prompts_sha256="", seed=7, per_prompt=1))
    ...     read_recipe(Path(folder))["seed"]
    7
    """
    has_images = any(file.suffix.lower() in IMAGES for file in files_in(folder))
    if has_images and not (folder / RECIPE).exists():
        raise OutputError(
            f"{folder} holds images without a {RECIPE}, which may be of another generator; "
            "choose another `folder=`"
        )
    if has_images and (differences := recipe.differences(read_recipe(folder))):
        raise OutputError(
            f"{folder} holds images of another recipe: {'; '.join(differences)}. Generate with "
            f"the settings of its {RECIPE}, or choose another `folder=`"
        )
    if not has_images:
        content = json.dumps(recipe.as_dict(), indent=2, ensure_ascii=False)
        write_text(folder / RECIPE, content + "\n")


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's recipe.json.

    Raises:
        OutputError: it cannot be read.

    >>> try:
    ...     read_recipe(Path("nowhere"))
    ... except OutputError as error:
    ...     print(str(error)[:35])
    nowhere/recipe.json cannot be read:
    """
    path = folder / RECIPE
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError, T2VError) as error:
        raise OutputError(f"{path} cannot be read: {error}; choose another `folder=`") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path} holds no recipe; choose another `folder=`")
    return content


class ImageList:
    """The lines of a folder's images.jsonl; each is written when its image is.

    Args:
        folder: the folder.
        images: the planned images, in their order.

    >>> import tempfile
    >>> image = PlannedImage("0_0.png", "a cat", 7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lines = ImageList(Path(folder), [image])
    ...     lines.add(image)
    ...     lines.finish()
    ...     print((Path(folder) / "images.jsonl").read_text(), end="")
    {"file": "0_0.png", "prompt": "a cat", "seed": 7}
    """

    def __init__(self, folder: Path, images: Sequence[PlannedImage]) -> None:
        self._path = folder / LIST
        self._rows = {image.file: _row(image) for image in images}
        for row in _rows_of(self._path):
            if (folder / str(row.get("file"))).is_file() and row.get("file") in self._rows:
                self._rows[row["file"]] |= {k: v for k, v in row.items() if k != "error"}

    def add(self, image: PlannedImage, notes: Mapping[str, Any] | None = None) -> None:
        """Write the line of an image.

        Args:
            image: the image.
            notes: what else is known of it, such as its `error`.
        """
        row = self._rows[image.file] = _row(image) | dict(notes or {})
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(_line(row))

    def finish(self) -> None:
        """Write all lines in the order of the plan, one for each image."""
        write_text(self._path, "".join(map(_line, self._rows.values())))


def _row(image: PlannedImage) -> dict[str, Any]:
    return {"file": image.file, "prompt": image.prompt, "seed": image.seed}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of an earlier run; the last may be cut where it was killed."""
    rows = []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _plain(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
