"""What small copies of benchmarks are written with: tables, drawn images, noise as videos."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

from helpers.media.videos import encode
from helpers.toy import draw_image

FIXTURES = Path(__file__).parents[2] / "fixtures"


def draw(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_image(seed).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def copy(root: Path, *names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(FIXTURES / name, root / Path(name).name)


def jpeg(seed: int) -> bytes:
    stream = io.BytesIO()
    draw_image(seed).save(stream, "JPEG")
    return stream.getvalue()


def clip(path: Path, seed: int, count: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, count, seed=seed)


# A generator's video of a prompt, as T2V benchmarks ship it: whole, or as frames.


def write_clip(root: Path, generator: str, name: str, count: int, seed: int) -> None:
    clip(root / generator / f"{name}.mp4", seed, count)


def draw_frames(root: Path, generator: str, name: str, count: int, seed: int) -> None:
    for k in range(count):
        draw(root / "frames" / generator / f"video_{name}_frame_{k:04}.jpg", seed + k)
