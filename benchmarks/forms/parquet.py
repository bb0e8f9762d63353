"""Tables with images in them, larger than memory: what is read of a row is its texts.

An image is read when it is needed, with the others of its group of rows, which follow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.inputs.image_file import open_image
from t2v_eval.inputs.media import Media
from t2v_eval.utils.regular_file import File, digest


def image_rows(
    path: Path, image_column: str, texts: Sequence[str]
) -> Iterator[tuple[Media, dict[str, Any]]]:
    """The image and the texts of each row of a Parquet file.

    Raises:
        BenchmarkDataError: not such a file, a column is missing, or an image.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = File.of(path)
        table = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise BenchmarkDataError(
            f"{path} is not a Parquet file that can be read: {error}"
        ) from error
    for column in (image_column, *texts):
        if column not in table.schema_arrow.names:
            raise BenchmarkDataError(
                f"{path}: there is no column {column!r}; the columns are "
                f"{', '.join(table.schema_arrow.names)}"
            )
    row = 0
    for group in range(table.num_row_groups):
        values = table.read_row_group(group, columns=[*texts]).to_pylist()
        contents = _image_contents(file, group, image_column)
        for n, ((content, called), own) in enumerate(zip(contents, values, strict=True)):
            row += 1
            where = f"{path}, row {row}"
            if not content:
                raise BenchmarkDataError(f"{where}: {image_column!r} holds no image")
            name = f"{where} ({called})" if called else where
            yield (
                Media(digest(content), name, partial(_load, file, group, image_column, n, name)),
                own,
            )


def _load(file: File, group: int, column: str, n: int, name: str) -> Image.Image:
    return open_image(_image_contents(file, group, column)[n][0], name)


@lru_cache(maxsize=2)
def _image_contents(file: File, group: int, column: str) -> list[tuple[bytes, str]]:
    """The content of each image of a group of rows, and its path where the table has one.

    Raises:
        MediaError: the file was replaced since its rows were read.
    """
    from pyarrow import parquet

    table = parquet.ParquetFile(file.path)
    values = table.read_row_group(group, columns=[column]).column(0).to_pylist()
    file.check(str(file.path))
    pairs = [
        (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        for value in values
    ]
    return [(c if isinstance(c, bytes) else b"", str(called or "")) for c, called in pairs]
