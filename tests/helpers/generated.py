"""Folders of images that stand for what generators made of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helpers.toy import draw_image
from PIL import Image

GENERATORS = ("sdxl-secret", "flux-hidden", "dalle-unknown")
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> {{ 7 * 7 }}"


def write_prompts(folder: Path, prompts: Sequence[str]) -> Path:
    """Write prompts.jsonl, whose values may hold anything."""
    import json

    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


def write_images(
    folder: Path,
    generators: Sequence[str],
    prompts: int,
    size: tuple[int, int] = (64, 48),
    each: int = 1,
) -> list[Path]:
    """Write ``GENERATOR/00000_0.jpg`` and so on, which name their generator in their metadata."""
    folders = []
    for k, generator in enumerate(generators):
        folders.append(folder / generator)
        folders[-1].mkdir()
        exif = Image.Exif()
        exif[0x0131] = generator  # Software
        for n in range(prompts):
            for index in range(each):
                # Large blots, which WebP keeps, so that an image is known by its colours.
                image = draw_image(100 * k + 10 * n + index, (4, 3)).resize(size, 0)
                path = folders[-1] / f"{n:05}_{index}.jpg"
                image.save(path, quality=95, exif=exif, comment=generator.encode())
    return folders
