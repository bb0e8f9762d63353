"""Read Parquet tables with embedded images that are larger than memory.

Only the texts of a row are kept. An image is read again when it is decoded, together with its row
group, whose other images are usually decoded next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """Yield the image and the texts of each row of a Parquet file.

    Raises:
        BenchmarkDataError: the file is not Parquet, or a column or an image is missing.

    >>> import tempfile
    >>> import pyarrow
    >>> from pyarrow import parquet
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "rows.parquet"
    ...     row = {"image": {"bytes": b"...", "path": "a.jpg"}, "caption": "a cat"}
    ...     parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    ...     [texts["caption"] for _, texts in image_rows(path, "image", ["caption"])]
    ['a cat']
    """
    from pyarrow import parquet

    with _reading(path):
        file = File.snapshot(path)
        table = parquet.ParquetFile(path)
    for column in (image_column, *texts):
        if column not in table.schema_arrow.names:
            raise BenchmarkDataError(
                f"{path}: there is no column {column!r}; the columns are "
                f"{', '.join(table.schema_arrow.names)}"
            )
    row = 0
    for group in range(table.num_row_groups):
        with _reading(path):
            values = table.read_row_group(group, columns=[*texts]).to_pylist()
            contents = _image_contents(file, group, image_column)
        for n, ((content, called), row_texts) in enumerate(zip(contents, values, strict=True)):
            row += 1
            where = f"{path}, row {row}"
            if not content:
                raise BenchmarkDataError(f"{where}: {image_column!r} holds no image")
            name = f"{where} ({called})" if called else where
            yield (
                Media(digest(content), name, partial(_load, file, group, image_column, n, name)),
                row_texts,
            )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise BenchmarkDataError(
            f"{path} is not a Parquet file that can be read: {error}"
        ) from error


def _load(file: File, group: int, column: str, n: int, name: str) -> Image.Image:
    return open_image(_image_contents(file, group, column)[n][0], name)


@lru_cache(maxsize=3)  # the columns of a row: an edit's source and two results
def _image_contents(file: File, group: int, column: str) -> list[tuple[bytes, str]]:
    """Return bytes and path ("" without one) of each image of a row group.

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
