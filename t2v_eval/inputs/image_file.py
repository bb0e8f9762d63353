"""Decode image files with Pillow: allowed formats, errors that name the file, bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from t2v_eval.errors import MediaError, T2VError
from t2v_eval.inputs.decode_budget import BUDGET, check_size

# Formats that Pillow decodes itself. Not among them: EPS and PostScript, for which it starts
# Ghostscript; WMF, GRIB, HDF5, BUFR, MPEG, FPX and MIC, which other programs or packages decode;
# IPTC, whose content is opened as any format; FITS, whose compressed form knows no bound.
# HEIF and JXL are there where their packages are installed and registered.
FORMATS = frozenset(
    "AVIF BLP BMP CUR DCX DDS DIB FLI FTEX GBR GIF HEIF ICNS ICO IM IMT JPEG JPEG2000 JXL MCIDAS "
    "MPO MSP PCD PCX PIXAR PNG PPM PSD QOI SGI SPIDER SUN TGA TIFF WEBP XBM XPM XVTHUMB".split()
)
SIXTEEN_BITS = ("PNG", "PPM")  # formats whose images of mode "I" have 16 bits
PIXEL_BYTES = 16  # upper bound per pixel while an image is decoded, rotated and preprocessed
STRIP = 1 << 22  # pixels converted at a time
ORIENTATION = 0x0112  # tag of EXIF and TIFF
# How each orientation is made upright. Not by ImageOps.exif_transpose, which also rewrites the
# EXIF and fails where one of its tags cannot be written.
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# First bytes of files that are passed as images by mistake.
_SIGNATURES = (
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"%PDF", "a PDF file"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file, perhaps an SVG drawing"),
    (b"<!DOC", "a web page"),
    (b"<html", "a web page"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GRIB", "a GRIB file"),
    (b"BUFR", "a BUFR file"),
    (b"\xd7\xcd\xc6\x9a", "a WMF file"),
    (b"\x1c\x02", "an IPTC file"),
)
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1")


def open_image(content: bytes, name: str) -> Image.Image:
    """Open an image file and read its header; its pixels are decoded later.

    Raises:
        MediaError: not an image, of a format that is not allowed, or too large.

    >>> stream = io.BytesIO()
    >>> Image.new("RGB", (4, 2)).save(stream, "PNG")
    >>> open_image(stream.getvalue(), "a.png").size
    (4, 2)
    """
    with decoding(name):
        Image.init()
        try:
            # In Pillow's own order, which decides where a file could be of two formats.
            return Image.open(io.BytesIO(content), formats=[f for f in Image.ID if f in FORMATS])
        except UnidentifiedImageError:
            kind = kind_of(content)
    if kind:
        raise MediaError(f"{name}: is {kind}, which is not decoded here: convert it to PNG or JPEG")
    raise MediaError(
        f"{name}: not an image that Pillow can read: check what it holds, or save it again as PNG "
        "or JPEG"
    )


def kind_of(content: bytes) -> str:
    """Return what a file holds that is not an image of `FORMATS`; "" if unknown.

    >>> kind_of(b"%PDF-1.7")
    'a PDF file'
    """
    if video := video_kind(content):
        return f"a video ({video})"
    if content[40:44] == b" EMF":
        return "an EMF file"
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if content[4:8] == b"ftyp":
        return "a HEIF image" if content[8:12] in _IMAGE_BRANDS[2:] else ""
    kinds = (kind for magic, kind in _SIGNATURES if start.lower().startswith(magic.lower()))
    return next(kinds, "")


def video_kind(content: bytes) -> str:
    """Return the container format of a video; "" if the content is not a video.

    >>> video_kind(bytes(4) + b"ftypisom"), video_kind(b"GIF89a")
    ('MP4 or QuickTime', '')
    """
    if content[4:8] == b"ftyp":
        return "" if content[8:12] in _IMAGE_BRANDS else "MP4 or QuickTime"
    if content[4:8] in (b"moov", b"mdat", b"wide") and content[:3] in (b"\0\0\0", b"\0\0\1"):
        return "QuickTime"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "AVI"
    if content[:4] == b"OggS":
        return "Ogg"
    if content[:1] == b"G" and content[188:189] == b"G" and content[376:377] == b"G":
        return "MPEG"
    starts = (
        (b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
        (b"FLV\x01", "Flash"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
        (b"\0\0\1\xba", "MPEG"),
        (b"\0\0\1\xb3", "MPEG"),
    )
    return next((kind for magic, kind in starts if content.startswith(magic)), "")


@contextmanager
def decoding(
    name: str, what: str = "cannot be decoded", remedy: str = "save it again, as PNG or JPEG"
) -> Iterator[None]:
    """Convert every exception of the block to a `MediaError` that names the file.

    Decoders raise anything: ZeroDivisionError, struct.error, UnicodeDecodeError, MemoryError.

    >>> try:
    ...     with decoding("a.png"):
    ...         1 / 0
    ... except MediaError as error:
    ...     print(error)
    a.png: cannot be decoded: ZeroDivisionError: division by zero; save it again, as PNG or JPEG
    """
    try:
        yield
    except T2VError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"{name}: {error}. If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except MemoryError:
        raise MediaError(
            f"{name}: {what}: the memory does not suffice; make it smaller, or free memory"
        ) from None
    except Exception as error:  # decoders raise anything for damaged files
        raise MediaError(f"{name}: {what}: {error_message(error)}; {remedy}") from error


def error_message(error: BaseException) -> str:
    """Return the message of an exception, with its type where the message alone says little.

    >>> error_message(KeyError("a"))
    "KeyError: 'a'"
    """
    text, kind = str(error).strip(), type(error).__name__
    return (
        text if text and isinstance(error, (OSError, T2VError)) else f"{kind}: {text}".rstrip(": ")
    )


def reserve_pixels(image: Image.Image, name: str) -> None:
    """Wait for the memory that decoding `image` takes; call it within a lease of `BUDGET`.

    Raises:
        MediaError: the image is too large even alone.

    >>> with BUDGET.lease():
    ...     reserve_pixels(Image.new("RGB", (4, 2)), "a.png")
    """
    width, height = image.size
    size = width * height * PIXEL_BYTES
    check_size(name, size, f"an image of {width} x {height} pixels", "make it smaller")
    BUDGET.reserve(size)


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Convert to upright RGB: apply the EXIF orientation, put alpha over white, scale 16 bits to 8.

    Returns:
        A new image, or `image` itself if it is RGB and upright.

    >>> to_upright_rgb(Image.new("RGBA", (1, 1))).getpixel((0, 0))
    (255, 255, 255)
    """
    sixteen = has_16_bits(image)  # before a copy loses the file's format
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _numbers_to_rgb(np.asarray(image), sixteen)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _in_strips(image, _over_white)
    return image.convert("RGB")


def has_16_bits(image: Image.Image) -> bool:
    """Return whether the format says that integers go up to 65535; else the values decide.

    >>> has_16_bits(Image.new("I", (4, 4)))
    False
    """
    return image.mode == "I" and image.format in SIXTEEN_BITS


def orientation_of(image: Image.Image) -> int | None:
    """Return the EXIF orientation, 1 to 8; None without one, or where the EXIF cannot be read.

    A camera's or an editor's broken EXIF says nothing of the pixels, which are scored as stored.

    >>> orientation_of(Image.new("RGB", (4, 4))) is None
    True
    """
    try:
        orientation: Any = image.getexif().get(ORIENTATION)
        return int(orientation) if orientation in range(1, 9) else None
    except Exception:  # Pillow's reader of EXIF raises anything
        return None


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; return an upright image itself, as a copy takes memory."""
    method = _TRANSPOSE.get(orientation_of(image) or 1)
    return image if method is None else image.transpose(method)


def _over_white(part: Image.Image) -> Image.Image:
    rgba = part.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a few rows at a time, so that copies stay small."""
    width, height = image.size
    rows = _rows(width)
    if height <= rows:
        return convert(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height)))
        whole.paste(convert(part), (0, top))
    return whole


def _numbers_to_rgb(values: NDArray[Any], sixteen: bool) -> Image.Image:
    """Convert numbers to grey, scaled by their range, a few rows at a time."""
    rows = _rows(values.shape[1])
    parts = [slice(top, top + rows) for top in range(0, len(values), rows)]
    if not all(np.isfinite(values[part]).all() for part in parts):
        raise ValueError("it has pixels that are NaN or infinite")
    high = float(values.max(initial=0))
    if values.dtype.kind == "f":
        scale = 255.0 if high <= 1.0 else 1.0
    else:
        scale = 1 / 257 if sixteen or high > 255 or values.dtype == np.uint16 else 1.0
    grey = np.empty(values.shape, np.uint8)
    for part in parts:
        grey[part] = np.clip(np.rint(values[part] * scale), 0, 255)
    return Image.fromarray(grey).convert("RGB")


def _rows(width: int) -> int:
    return max(1, STRIP // max(1, width))
