"""Files that hold several images in a grid: cut them into these images."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import Media, open_media


def parse_grid(grid: str) -> tuple[int, int]:
    """Parse the number of columns and rows, each 1 or more.

    Raises:
        InputError: it is not of the form COLUMNSxROWS.

    >>> parse_grid("2x2"), parse_grid("")
    ((2, 2), (1, 1))
    """
    match = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", grid) if isinstance(grid, str) else None
    if match is None and grid != "":
        raise InputError(f"`grid={grid!r}`: pass COLUMNSxROWS, for example 2x2")
    return (int(match[1]), int(match[2])) if match else (1, 1)


def cut_grid(path: str | Path, columns: int, rows: int, drop_black: bool = False) -> list[Media]:
    """Return the images of a grid, row by row, all of the same size in pixels.

    Args:
        path: the file.
        columns: the number of images in a row.
        rows: the number of rows.
        drop_black: whether an image that is black everywhere stands for none, as in OneIG-Bench
            (`split_mxn_grid` of scripts/utils/utils.py).

    Raises:
        MediaError: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (5, 4)).save(f"{folder}/a.png")
    ...     [image.load().size for image in cut_grid(f"{folder}/a.png", 2, 2)]
    [(2, 2), (2, 2), (2, 2), (2, 2)]
    """
    media = open_media(path, str(path))
    width, height = media.load().size
    width, height = width // columns, height // rows
    boxes = [
        (column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(rows)
        for column in range(columns)
    ]
    if drop_black:
        image = media.load().convert("RGB")
        boxes = [box for box in boxes if not _is_black(image.crop(box))]
    return [media.crop(*box) for box in boxes]


def _is_black(image: Image.Image) -> bool:
    return image.getbbox() is None
