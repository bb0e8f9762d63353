"""Several images that are one input: pairs and edits."""

from __future__ import annotations

import base64
import io
import pickle

import pytest
import torch
from helpers.toy import draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import MediaError, UnsupportedError
from t2v_eval.inputs.media import EDIT, PAIR, ImageGroup, Media, name_of, open_media
from t2v_eval.report.thumbnails import GAP, Album
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer


class Brightening(Scorer):
    """How much brighter an edit makes the first pixel."""

    version = "1"
    image_roles = EDIT

    def score_cells(self, images, texts, cells):
        for position, (i, _) in enumerate(cells.tolist()):
            before, after = (
                self.load_image(image).getpixel((0, 0))[0] for image in images[i].images
            )
            yield ScoreChunk(
                torch.tensor([position]).numpy(), torch.tensor([float(after - before)])
            )


class Plain(Brightening):
    image_roles = ()


@pytest.fixture
def files(tmp_path):
    paths = {}
    for level in (10, 30):
        paths[level] = tmp_path / f"{level}.png"
        Image.new("RGB", (4, 2), (level, 0, 0)).save(paths[level])
    return paths


def test_an_edit_is_one_image_of_a_scorer_of_edits(files, tmp_path):
    edit, back = t2v_eval.Edit(files[10], files[30]), t2v_eval.Edit(files[30], str(files[10]))
    store = t2v_eval.Store(tmp_path / "s.db")
    assert Brightening()(edit, "brighter").tolist() == [[20.0]], "an edit alone is no list"
    scores = Brightening(store=store)([edit, back, open_media(edit)], ["brighter", "darker"])
    assert scores.tolist() == [[20.0, 20.0], [-20.0, -20.0], [20.0, 20.0]]
    assert sorted(row.value for row in store.rows()) == [-20.0, -20.0, 20.0, 20.0]
    assert name_of(edit) == f"{files[10]} -> {files[30]}"
    assert pickle.loads(pickle.dumps(open_media(edit))) == open_media(edit)


def test_keys_are_those_of_the_images_in_order():
    a, b = (open_media(draw_image(seed)) for seed in (1, 2))
    pair, edit = ImageGroup.of(first=a, second=b), ImageGroup.of(source=a, result=b)
    assert pair.key == f"{a.key}+{b.key}", "as it is in stores of pairs"
    others = [ImageGroup.of(first=b, second=a), ImageGroup.of(source=b, result=a), edit, a, b]
    assert len({pair.key, *(media.key for media in others)}) == 6
    assert (pair.roles, edit.roles) == (PAIR, EDIT)


def test_a_scorer_refuses_what_it_does_not_take():
    edit = t2v_eval.Edit(draw_image(1), draw_image(2))
    kind = r"images\[0\]\.source.* are a group of source, result: .*--kind edit"
    for on_error in ("raise", "skip"):
        with pytest.raises(UnsupportedError, match=rf"'Plain' scores single images, and {kind}"):
            Plain(on_error=on_error)([edit], ["a cat"])
        with pytest.raises(UnsupportedError, match=r"scores edits.* single image: pass `t2v_eval"):
            Brightening(on_error=on_error)([draw_image(1)], ["a cat"])
    with pytest.raises(MediaError, match="are 2 images .*--kind edit"):
        open_media(edit).load()


def test_an_image_of_an_edit_that_cannot_be_read_is_named(files, tmp_path):
    broken = t2v_eval.Edit(files[10], tmp_path / "gone.png")
    with pytest.raises(MediaError, match=r"images\[1\]\.result .*gone\.png.*no such file"):
        Brightening()([t2v_eval.Edit(files[10], files[30]), broken], "brighter")
    gone = Media.broken("gone.png", MediaError("gone.png: no such file"))
    assert ImageGroup.of(first=open_media(files[10]), second=gone).is_broken


def test_a_report_shows_both_images_side_by_side(files):
    edit = t2v_eval.Edit(Image.new("RGB", (40, 20), "red"), Image.new("RGB", (20, 40), "blue"))
    (url,) = Album([edit]).urls
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    assert image.size == (60 + GAP, 40)
    red, blue = image.getpixel((5, 5)), image.getpixel((50 + GAP, 35))
    assert red == (255, 0, 0) and blue == (0, 0, 255)
    assert image.getpixel((5, 35)) == image.getpixel((40 + GAP // 2, 5)) == (255, 255, 255)
