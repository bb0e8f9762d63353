"""Mutated images and videos: each is decoded, or refused with a MediaError, in time and memory.

    python tests/performance/fuzz_media.py --images 20000 --videos 2000

Files of every format that Pillow and PyAV write here are damaged in many ways, by number, so that
every case can be made again. Processes decode them under a limit of memory; one that takes longer
than `SECONDS` is killed. The exit code is 1 where anything else happened than one of the two.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

# Of the processor, for one file, so that a busy machine changes nothing. Pillow before 13 decodes
# DDS files with unusual masks in Python, in 2 microseconds per pixel.
SECONDS = 5 if int(PIL.__version__.partition(".")[0]) >= 13 else 20
PATIENCE = 120.0  # seconds after which a process is blocked, or starting it has failed
ADDRESS_SPACE = 6 << 30  # bytes, of which most are libraries and what is only reserved
RESIDENT = 1 << 30  # bytes that a process may have held at most
DECODE_MIB = 256  # what decoding may take
LARGEST = 1 << 20  # bytes of a mutated file
FORMATS = (
    "AVIF BLP BMP DDS DIB EPS GIF ICNS ICO IM JPEG JPEG2000 MPO MSP PCX PNG PPM QOI SGI SPIDER TGA "
    "TIFF WEBP XBM"
).split()
MODES = "RGB RGBA L LA P 1 CMYK I F I;16".split()
VIDEOS = (
    ("mp4", "mpeg4"),
    ("mp4", "libx264"),
    ("mov", "mpeg4"),
    ("mkv", "mpeg4"),
    ("webm", "libvpx-vp9"),
    ("webm", "libvpx"),
    ("avi", "mpeg4"),
    ("mpg", "mpeg2video"),
    ("ts", "mpeg2video"),
    ("flv", "flv"),
)


@cache
def draw_images() -> list[tuple[str, bytes]]:
    """Whole images of every format and mode that can be written."""
    noise = np.random.RandomState(0).randint(0, 256, (24, 32, 3), dtype=np.uint8)
    smooth = np.linspace(0, 255, 48 * 40 * 3).reshape(48, 40, 3).astype(np.uint8)
    files = []
    for source in (noise, smooth):
        for kind in FORMATS:
            for mode in MODES:
                files += _image(Image.fromarray(source), kind, mode)
    several = [Image.new("RGB", (20, 16), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        files += _saved(several[0], kind, f"{kind} of three", save_all=True, append=several[1:])
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a description", 0x8298: "someone", 0x0132: "2020:01:01"})
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        files += _saved(Image.fromarray(noise), kind, f"{kind} with EXIF", exif=exif)
    for level in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        image = Image.fromarray(noise)
        image = image.convert("1") if level == "group4" else image
        files += _saved(image, "TIFF", f"TIFF {level}", compression=level)
    files += _saved(Image.fromarray(noise), "JPEG", "JPEG progressive", progressive=True)
    return files


def _image(image: Image.Image, kind: str, mode: str) -> list[tuple[str, bytes]]:
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        return _saved(Image.fromarray(grey), kind, f"{kind} {mode}")
    return _saved(image.convert(mode), kind, f"{kind} {mode}")


def _saved(
    image: Image.Image, kind: str, name: str, append: Iterable[Image.Image] = (), **options: Any
) -> list[tuple[str, bytes]]:
    stream = io.BytesIO()
    try:
        image.save(stream, kind, append_images=list(append), **options)
    except Exception:  # a mode that the format does not have, or a format this Pillow does not
        return []
    return [(name, stream.getvalue())]


@cache
def videos() -> list[tuple[str, bytes]]:
    """Whole videos of every container and codec that can be written."""
    import av

    noise = np.random.RandomState(1)
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, codec in VIDEOS:
            path = Path(folder) / f"{codec}.{ending}"
            try:
                with av.open(str(path), "w") as container:
                    container.metadata["title"] = "a title"
                    stream: Any = container.add_stream(codec, rate=25)
                    stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
                    for _ in range(12):
                        pixels = noise.randint(0, 255, (32, 48, 3), np.uint8)
                        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                        container.mux(stream.encode(frame))
                    container.mux(stream.encode())
            except Exception:  # a codec that this PyAV does not have
                continue
            files.append((path.name, path.read_bytes()))
    return files


def mutated(kind: str, seed: int, number: int) -> tuple[str, bytes]:
    """The name and content of a case; the same for the same arguments."""
    dice = random.Random(f"{kind} {seed} {number}")
    wholes = draw_images() if kind == "image" else videos()
    name, whole = dice.choice(wholes)
    content = bytearray(whole)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        change = dice.choice(CHANGES)
        name += f", {change.__name__}"
        change(dice, content, dice.choice(wholes)[1])
    return name, bytes(content[:LARGEST])


def flip(dice: random.Random, content: bytearray, _: bytes) -> None:
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        if content:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def cut(dice: random.Random, content: bytearray, _: bytes) -> None:
    del content[dice.randrange(len(content) + 1) :]


def blank(dice: random.Random, content: bytearray, _: bytes) -> None:
    start = dice.randrange(len(content) + 1)
    size = min(dice.choice((1, 4, 16, 256)), len(content) - start)
    content[start : start + size] = bytes([dice.choice((0, 255, dice.randrange(256)))]) * size


def splice(dice: random.Random, content: bytearray, other: bytes) -> None:
    start, stop = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    first, last = sorted(dice.randrange(len(other) + 1) for _ in range(2))
    content[start : min(stop, start + 512)] = other[first : min(last, first + 512)]


def repeat(dice: random.Random, content: bytearray, _: bytes) -> None:
    start = dice.randrange(len(content) + 1)
    part = content[start : start + dice.choice((4, 64, 1024))]
    content[start:start] = part * dice.choice((1, 2, 8))


def number(dice: random.Random, content: bytearray, _: bytes) -> None:
    """A number that is tested rarely, mostly where headers are."""
    form = dice.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    top = 1 << 8 * struct.calcsize(form)
    value = dice.choice((0, 1, top - 1, top // 2, top // 2 - 1, 13_000 % top, dice.randrange(top)))
    reach = len(content) if dice.random() < 0.3 else min(len(content), 256)
    if reach >= struct.calcsize(form):
        struct.pack_into(form, content, dice.randrange(reach - struct.calcsize(form) + 1), value)


def chunk(dice: random.Random, content: bytearray, _: bytes) -> None:
    """A chunk of a PNG with another content, size or name, and a right checksum."""
    places, at = [], 8
    while content[:4] == b"\x89PNG" and at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if at + 12 + size > len(content):
            break
        places.append((at, size))
        at += 12 + size
    if not places:
        return number(dice, content, b"")
    at, size = dice.choice(places)
    body = content[at + 8 : at + 8 + size]
    if content[at + 4 : at + 8] == b"IHDR" and size >= 8 and dice.random() < 0.7:
        side = dice.choice((0, 1, 1000, 13_000, 65_535, 2**31 - 1))
        struct.pack_into(">I", body, dice.choice((0, 4)), side)
    else:
        flip(dice, body, b"")
    kind = bytes(content[at + 4 : at + 8])
    if dice.random() < 0.2:
        kind = dice.choice((b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"tRNS", b"PLTE", b"fcTL"))
    checksum = zlib.crc32(kind + body).to_bytes(4, "big")
    whole = len(body).to_bytes(4, "big") + kind + body + checksum
    content[at : at + 12 + size] = whole * dice.choice((1, 1, 1, 2))


def metadata(dice: random.Random, content: bytearray, _: bytes) -> None:
    """Something inside of EXIF, a title, or of another named part."""
    marks = (b"Exif", b"II*\0", b"MM\0*", b"ICC_", b"tkhd", b"stts", b"stsz", b"mvhd", b"udta")
    positions = [at for mark in marks if (at := content.find(mark)) >= 0]
    if not positions:
        return number(dice, content, b"")
    at = dice.choice(positions)
    part = content[at : at + 128]
    dice.choice((flip, number, blank))(dice, part, b"")
    content[at : at + len(part)] = part


def dimensions(dice: random.Random, content: bytearray, _: bytes) -> None:
    """A huge width or height where common formats have it."""
    side = dice.choice((0, 1, 4096, 13_000, 20_000, 65_535))
    places: dict[bytes, tuple[str, tuple[int, ...]]] = {
        b"GIF8": ("<H", (6, 8)),
        b"BM": ("<I", (18, 22)),
        b"\x01\xda": (">H", (6, 8)),
        b"qoif": (">I", (4, 8)),
        b"DDS ": ("<I", (12, 16)),
        b"\x0a\x05": ("<H", (8, 10)),
    }
    for start, (form, at) in places.items():
        if content.startswith(start) and len(content) > 32:
            struct.pack_into(form, content, dice.choice(at), side)
            return None
    frame = next((at for mark in b"\xc0\xc2" if (at := content.find(b"\xff%c" % mark)) > 0), 0)
    if content[:2] == b"\xff\xd8" and frame and frame + 9 < len(content):
        struct.pack_into(">H", content, frame + dice.choice((5, 7)), side)
        return None
    return number(dice, content, b"")


CHANGES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    flip,
    flip,
    cut,
    blank,
    splice,
    repeat,
    number,
    number,
    chunk,
    metadata,
    dimensions,
)


def outcome(kind: str, content: bytes, folder: Path) -> tuple[str, str]:
    """What decoding gives: "decoded" and a hash of all pixels, or "refused" and the message."""
    from t2v_eval.errors import MediaError
    from t2v_eval.inputs.media import decode, open_media
    from t2v_eval.inputs.video import Sampling, clip, frames

    pixels = hashlib.blake2b(digest_size=8)
    try:
        if kind == "image":
            media = open_media(content)
            images = [decode(media, mode) for mode in ("seen", "original")]
        else:
            path = folder / "a.mp4"
            path.write_bytes(content)
            images = clip(open_media(path), Sampling(4)).frames  # type: ignore[arg-type]
            images += [decode(frame) for frame in frames(path, 3)]
        for image in images:
            pixels.update(f"{image.mode} {image.size}".encode() + image.tobytes())
    except MediaError as error:
        return "refused", str(error)
    return "decoded", pixels.hexdigest()


def serve(pipe: Connection) -> None:
    """Decode cases that a process is asked for, under a limit of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    os.environ["T2V_EVAL_DECODE_MIB"] = str(DECODE_MIB)
    warnings.simplefilter("ignore")  # Pillow's of large images
    draw_images(), videos()
    with tempfile.TemporaryDirectory() as folder:
        pipe.send("ready")
        while case := pipe.recv():
            _, content = mutated(*case)
            used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + SECONDS, hard))
            try:
                status, detail = outcome(case[0], content, Path(folder))
            except Exception as error:
                status, detail = "raised", f"{type(error).__name__}: {error}"
            pipe.send((status, detail, peak_memory()))


def peak_memory() -> int:
    """The most bytes that this process held, without what its parent did, as `getrusage` counts."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Worker:
    """A process that decodes, and is started anew after it was killed or died."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs,), daemon=True
        )
        self.process.start()
        theirs.close()
        assert self.pipe.poll(PATIENCE) and self.pipe.recv() == "ready"

    def run(self, case: tuple[str, int, int]) -> tuple[str, str]:
        """What came of a case: see `outcome`; or "hung", "died", "swollen" or "raised"."""
        self.pipe.send(case)
        if not self.pipe.poll(PATIENCE):
            self.stop()
            self.start()
            return "hung", "blocked"
        try:
            status, detail, held = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self.start()
            if code == -signal.SIGXCPU:
                return "hung", f"longer than {SECONDS} s"
            return "died", f"exit code {code}"
        if held > RESIDENT:
            self.stop()
            self.start()
            return "swollen", f"{held >> 20} MiB"
        return status, detail

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(
    kind: str,
    count: int,
    seed: int = 0,
    note: Callable[[int, str, str], None] = lambda *_: None,
) -> tuple[Counter[str], list[str]]:
    """Decode so many cases: how often what happened, and a line for each that went wrong."""
    counts, wrong = Counter[str](), []
    worker = Worker()
    try:
        for n in range(count):
            status, detail = worker.run((kind, seed, n))
            counts[status] += 1
            note(n, status, detail)
            if status not in ("decoded", "refused"):
                wrong.append(f"{kind} {seed} {n} ({mutated(kind, seed, n)[0]}): {status}: {detail}")
    finally:
        worker.stop()
    return counts, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a file for what came of each case")
    arguments = parser.parse_args()
    lines: list[str] = []
    failed = False
    for kind, count in (("image", arguments.images), ("video", arguments.videos)):
        counts, wrong = fuzz(
            kind,
            count,
            arguments.seed,
            lambda n, *what, kind=kind: lines.append(f"{kind} {n} {' '.join(what)}"),  # type: ignore[misc]
        )
        summary = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
        print(f"{count} {kind}s: {summary}", *wrong, sep="\n", flush=True)
        failed |= bool(wrong)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", "utf-8", "backslashreplace")
    sys.exit(failed)


if __name__ == "__main__":
    main()
