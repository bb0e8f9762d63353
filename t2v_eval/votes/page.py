"""The page on which people judge images, one self-contained file, and its key."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from t2v_eval.errors import InputError, OutputError, T2VError
from t2v_eval.utils.files import check_folder, write_text
from t2v_eval.utils.regular_file import digest
from t2v_eval.votes.images import EncodedImage, encode_all
from t2v_eval.votes.key import Key, Kind, read_key
from t2v_eval.votes.tasks import Task, TaskImage
from t2v_eval.votes.wording import WORDING, Wording

MAX_BYTES = 48 * 2**20  # of all images of a page, which phones must hold in memory
IMAGE_PIXELS = 768  # the longer side of images
LARGEST = 4096
KEY_FILE = "key.json"


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was written.

    Attributes:
        path: the page, which people get.
        key: its key, which they do not get.
        id: the id of the page.
        tasks: how many answers it asks for.
        attention: how many of them check attention.
        size: of the page, in bytes.
        unequal: the number of pairs whose two images differ in shape.

    >>> Page(Path("vote.html"), Path("key.json"), "8f6cbd9ab215", 21, 1, 2048).tasks
    21
    """

    path: Path
    key: Path
    id: str
    tasks: int
    attention: int
    size: int
    unequal: int = 0


def write_page(
    tasks: Sequence[Task],
    folder: str | Path,
    instructions: str = "",
    image_pixels: int = IMAGE_PIXELS,
) -> Page:
    """Write ``vote.html`` or ``rate.html`` for people, and ``key.json``, which they do not get.

    The page holds neither names of generators nor of files: images are encoded anew, and each task
    has a random id. It needs no network, and forbids it by a content security policy. It keeps
    answers in the browser, and saves them as a file that `read_answers` reads.

    Args:
        tasks: of `plan_pairs` or `plan_ratings`.
        folder: where to write.
        instructions: what people read first, in place of the default; empty lines part paragraphs.
        image_pixels: the longer side of images that are larger.

    Raises:
        InputError: there are more images than a page may hold, or a number is out of its range.
        MediaError: an image cannot be read; the message names it.
        OutputError: nothing can be written to the folder, or it has the key of another page.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image = Path(folder) / "a.png"
    ...     Image.new("RGB", (8, 8), "red").save(image)
    ...     task = Task("0123456789", "0", "a cat", (TaskImage("sdxl", str(image)),))
    ...     write_page([task], folder).path.name
    'rate.html'
    """
    kind: Literal["vote", "rate"] = "vote" if len(tasks[0].images) == 2 else "rate"
    return write_page_of(kind, WORDING[kind], tasks, folder, instructions, image_pixels)


def write_page_of(
    kind: Kind,
    wording: Wording,
    tasks: Sequence[Task],
    folder: str | Path,
    instructions: str = "",
    image_pixels: int = IMAGE_PIXELS,
    details: Mapping[str, Any] | None = None,
) -> Page:
    """Write the page of a kind, ``KIND.html``, and ``key.json``.

    Args:
        kind: what people do on it.
        wording: its words.
        tasks: what people judge, in this order.
        folder: where to write.
        instructions: as in `write_page`.
        image_pixels: as in `write_page`.
        details: what the key says of the page besides its tasks; see `Key`.

    Raises:
        InputError, MediaError, OutputError: see `write_page`.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     image = Path(folder) / "a.png"
    ...     Image.new("RGB", (8, 8), "red").save(image)
    ...     task = Task("0123456789", "0", "a cat", (TaskImage("sdxl", str(image)),))
    ...     write_page_of("rate", WORDING["rate"], [task], folder).tasks
    1
    """
    if not 1 <= image_pixels <= LARGEST:
        raise InputError(f"`image_pixels={image_pixels!r}`: pass a number from 1 to {LARGEST}")
    path = check_folder(folder)
    encoded = _encode(tasks, wording.count, image_pixels)
    page, content = render(kind, tasks, encoded, instructions or wording.instructions, wording)
    key = Key(kind, page, {task.id: task for task in tasks}, details or {})
    _check_key(path / KEY_FILE, page)
    write_text(path / KEY_FILE, key.to_json(path))
    write_text(path / f"{kind}.html", content)
    return Page(
        path / f"{kind}.html",
        path / KEY_FILE,
        page,
        len(tasks),
        sum(task.is_attention for task in tasks),
        len(content.encode()),
        sum(len({encoded[image].shape for image in task.images}) > 1 for task in tasks),
    )


def render(
    kind: Kind,
    tasks: Sequence[Task],
    encoded: dict[TaskImage, EncodedImage],
    instructions: str,
    wording: Wording,
) -> tuple[str, str]:
    """Return the id of a page and its HTML; texts from outside are escaped.

    Args:
        kind: what people do on it.
        tasks: in their order.
        encoded: the images of the tasks.
        instructions: paragraphs, parted by empty lines.
        wording: its words.

    >>> task = Task("0123456789", "0", "a cat", (TaskImage("sdxl", "sdxl/0.png"),))
    >>> url = EncodedImage("data:image/webp;base64,", 8, 8)
    >>> "sdxl" in render("rate", [task], {task.images[0]: url}, "Look.", WORDING["rate"])[1]
    False
    """
    urls = sorted({image.url for image in encoded.values()})  # an order that says nothing
    index = {url: n for n, url in enumerate(urls)}
    content = {
        "kind": kind,
        "file": wording.file,
        "choices": [{"value": c.value, "key": c.key} for c in wording.choices],
        "tasks": [
            {
                "id": task.id,
                "text": task.text,
                "images": [index[encoded[image].url] for image in task.images],
            }
            for task in tasks
        ],
    }
    page = digest(json.dumps([content, urls, instructions]).encode())[:12]
    script = "\n".join(
        files("t2v_eval.votes").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.js", wording.script)
    )
    paragraphs = [" ".join(part.split()) for part in instructions.split("\n\n") if part.strip()]
    html = (
        _environment()
        .get_template("page.html")
        .render(
            wording=wording,
            kind=kind,
            count=len(tasks),
            instructions=paragraphs,
            data=_script_json({"page": page, **content}),
            images=_script_json(urls),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page, html


@functools.cache  # templates are compiled once
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("t2v_eval.votes", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _script_json(content: Any) -> Markup:
    """Return JSON in which no text can end the ``<script>`` element that holds it."""
    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def _encode(tasks: Sequence[Task], count: str, pixels: int) -> dict[TaskImage, EncodedImage]:
    """Encode the images of tasks, each once.

    Args:
        tasks: the tasks.
        count: the argument that says how many there are.
        pixels: the longer side of larger images.

    Raises:
        InputError: they are more than a page may hold.
    """
    images = list(dict.fromkeys(image for task in tasks for image in task.images))
    encoded: dict[TaskImage, EncodedImage] = {}
    room = MAX_BYTES
    for image, encoding in zip(images, encode_all(images, pixels), strict=True):
        room -= len(encoding.url)
        if room < 0:
            fit = sum(all(i in encoded for i in task.images) for task in tasks)
            fewer = f"pass `{count}={fit * 9 // 10}` or " if fit > 1 else "pass "
            raise InputError(
                f"the images of {fit} of {len(tasks)} tasks fill the {MAX_BYTES >> 20} MB that a "
                f"page may hold: {fewer}a smaller `image_pixels={max(1, pixels * 2 // 3)}`; or "
                "write several pages, with a part of the prompts each"
            )
        encoded[image] = encoding
    return encoded


def _check_key(path: Path, page: str) -> None:
    """Refuse to replace the key of another page, without which its answers say nothing."""
    if not path.exists():
        return
    try:
        present = f"the key of page {other.page}" if (other := read_key(path)).page != page else ""
    except T2VError:
        present = "no key of a page"
    if present:
        raise OutputError(
            f"{path} is {present}, whose answers could no longer be read: choose another "
            "`folder=`, or move it away"
        )
