"""Draw what scorers leave of a wide image, with the functions that prepare it for them."""

from __future__ import annotations

import io
from html import escape

from PIL import Image, ImageDraw

from t2v_eval.backends.common.images import pad_to_square, resize_center_crop, smart_resize
from t2v_eval.cards import GEOMETRIES

SIZE = (400, 160)  # of the drawn image
SIDE = 112  # of a square input
GAP = 6  # between tiles
GREY = (0.48, 0.46, 0.41)  # CLIP's mean colour, with which LLaVA pads
DRAWN = "a red ball at the left end, a house in the middle and a tree at the right end"
SHOWN = {
    "crop": f"{SIDE} x {SIDE} pixels: the house alone",
    "stretch": f"{SIDE} x {SIDE} pixels: ball, house and tree, each narrower than it is",
    "pad": f"{SIDE} x {SIDE} pixels: the whole image between two grey bars",
    "aspect": "the whole image, smaller",
    "tiles": "two squares beside each other, and a small copy of the whole",
}


def wide_image() -> Image.Image:
    """Draw a ball, a house and a tree in an image that is 2.5 times as wide as high."""
    image = Image.new("RGB", SIZE, "#cfe6f5")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 120, 400, 160), fill="#8fbf6a")
    pen.ellipse((16, 68, 84, 136), fill="#d0312d")
    pen.rectangle((162, 76, 238, 136), fill="#e8c07d")
    pen.polygon(((150, 78), (200, 28), (250, 78)), fill="#8a4b3c")
    pen.rectangle((190, 102, 210, 136), fill="#5b3a29")
    pen.rectangle((344, 92, 356, 138), fill="#6b4a2f")
    pen.ellipse((314, 28, 386, 104), fill="#2f7d3b")
    return image


def prepared(word: str, image: Image.Image) -> Image.Image:
    """Return what a scorer makes of an image, where `word` is one of `SHOWN`."""
    if word == "crop":
        return resize_center_crop(image, SIDE)
    if word == "stretch":
        return image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if word == "pad":
        return pad_to_square(image, GREY).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if word == "aspect":
        return smart_resize(image, 8, 0, 2 * SIDE**2)
    grid = image.resize((2 * SIDE, SIDE), Image.Resampling.BICUBIC)
    views = [grid.crop((x, 0, x + SIDE, SIDE)) for x in (0, SIDE)]
    views.append(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    row = Image.new("RGBA", (3 * SIDE + 2 * GAP, SIDE))
    for n, view in enumerate(views):
        row.paste(view, (n * (SIDE + GAP), 0))
    return row


def figures() -> dict[str, bytes]:
    """Return the drawn image and what each word leaves of it, as PNG files by their paths."""
    image = wide_image()
    drawn = {"image": image} | {word: prepared(word, image) for word in SHOWN}
    files = {}
    for name, figure in drawn.items():
        content = io.BytesIO()
        figure.save(content, "PNG", optimize=True)
        files[f"assets/geometry-{name}.png"] = content.getvalue()
    return files


def geometry_section() -> str:
    """Return the figures with their captions, as HTML."""
    captions = {"image": ("the image", DRAWN, "")}
    captions |= {word: (word, shown, GEOMETRIES[word]) for word, shown in SHOWN.items()}
    rows = [
        f'<figure><img src="assets/geometry-{name}.png" alt="{escape(shown)}">'
        f"<figcaption><strong>{title}</strong>{escape(text and ': ' + text)}</figcaption></figure>"
        for name, (title, shown, text) in captions.items()
    ]
    return '<div class="geometries">\n' + "\n".join(rows) + "\n</div>"
