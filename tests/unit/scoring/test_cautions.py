"""Cautions about images of other sizes and truncated texts, from a run or from the store."""

from __future__ import annotations

import io
import warnings

import pytest
from helpers.toy import draw_image
from helpers.toy_truncating import Short
from PIL import Image

from t2v_eval.errors import T2VWarning
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.cautions import other_sizes, size_of
from t2v_eval.scoring.plan import Block

ORIENTATION = 274


def turned(orientation: int) -> bytes:
    """A file of 12 x 10 pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    draw_image(0, (12, 10)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(orientation):
    media = open_media(turned(orientation))
    upright = (12, 10) if orientation <= 4 else (10, 12)
    assert size_of(media, "seen") == upright
    assert size_of(media, "original") == (12, 10)
    assert other_sizes([media], upright, "seen", "means nothing") == []
    (caution,) = other_sizes([media], (48, 48), "seen", "means nothing")
    assert caution.startswith("1 of 1 images are not of 48 x 48 pixels, the first is image (")
    assert caution.endswith("means nothing")


def test_texts_cut_in_an_earlier_run_are_reported_again(tmp_path):
    images, texts = [draw_image(n) for n in range(2)], ["short", "far too long", "longer still"]
    block, cautions = [Block.of(images, texts)], []
    for computed in (6, 0):
        scorer = Short(device="cpu", store=tmp_path / "scores.sqlite")
        with pytest.warns(T2VWarning, match="2 of 3 texts are longer"):
            result = scorer.evaluate_blocks(block)
        assert (result.counts.computed, result.truncated) == (computed, 2)
        cautions.append(result.cautions)
    assert cautions[0] == cautions[1]
    # A further cell of a text that was cut before is not encoded again, but cut all the same.
    scorer = Short(device="cpu", store=tmp_path / "scores.sqlite")
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        assert scorer.evaluate_blocks([Block.of(draw_image(7), texts[1])]).truncated == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scorer.evaluate_blocks([Block.of(images, "short")]).truncated == 0
