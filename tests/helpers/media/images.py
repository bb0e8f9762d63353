"""Small image files and their pixels."""

from __future__ import annotations

import io

import numpy as np
from helpers.toy import draw_image

from t2v_eval.inputs.media import decode, open_media


def png(n=0, size=(12, 10)):
    stream = io.BytesIO()
    draw_image(n, size).save(stream, "PNG")
    return stream.getvalue()


def pixels(source, mode="seen", **options):
    return np.asarray(decode(open_media(source, **options), mode))
