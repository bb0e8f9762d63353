"""Image mode "fast": large JPEG files on another path, all others as in "seen"."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import sklearn.datasets
from helpers.toy import draw_image
from PIL import Image

import t2v_eval
from t2v_eval.errors import InputError, MediaError, MissingPackageError
from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.inputs.media import decode, open_media

SMALL = Resizing(48, "bicubic")
SHIPPED = Path(sklearn.datasets.__file__).parent / "images"
PHOTOS = [
    SHIPPED / "china.jpg",
    SHIPPED / "flower.jpg",
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
]


def file_of(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def photo():
    with Image.open(PHOTOS[0]) as image:
        return image.convert("RGB")


def resize(image, resizing):
    """Resize with Pillow, the short side to its length and the long one rounded down."""
    if isinstance(resizing.size, tuple):
        size = resizing.size[::-1]
    else:
        size = tuple(resizing.size * length // min(image.size) for length in image.size)
    return image.resize(size, Image.Resampling[resizing.filter.upper()])


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "resizing",
    [Resizing(224, "bicubic"), Resizing(48, "bicubic"), Resizing((256, 200), "bilinear")],
    ids=str,
)
def test_resized_photographs_differ_by_1_in_few_values(path, resizing):
    media = open_media(path)
    exact = resize(decode(media), resizing)
    fast = decode(media, "fast", resizing)
    assert fast.size == exact.size
    apart = np.abs(np.asarray(fast, np.int64) - np.asarray(exact, np.int64))
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.01


ROTATED = Image.Exif()
ROTATED[0x0112] = 6
KINDS = {
    "CMYK": lambda p: file_of(p.convert("CMYK"), "JPEG"),
    "grayscale": lambda p: file_of(p.convert("L"), "JPEG"),
    "progressive": lambda p: file_of(p, "JPEG", progressive=True),
    "rotated": lambda p: file_of(
        p, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "PNG": lambda p: file_of(p.crop((0, 0, 400, 400)), "PNG"),
    "16-bit PNG": lambda p: file_of(
        Image.fromarray(np.arange(160000, dtype=np.uint16).reshape(400, 400)), "PNG"
    ),
    "small": lambda p: file_of(p.crop((0, 0, 48, 400)), "JPEG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_decoded_whole(photo, kind):
    media = open_media(KINDS[kind](photo))
    whole, fast = decode(media), decode(media, "fast", SMALL)
    assert fast.size == whole.size
    assert fast.tobytes() == whole.tobytes()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.98])
def test_a_truncated_file_is_the_same_error(photo, share):
    content = file_of(photo, "JPEG")
    content = content[: int(share * len(content))]
    messages = []
    for mode in ("seen", "fast"):
        with pytest.raises(MediaError) as error:
            decode(open_media(content, "a.jpg"), mode, SMALL)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_an_image_of_the_caller_is_not_changed():
    with Image.open(PHOTOS[0]) as image:
        assert decode(open_media(image), "fast", SMALL).size == image.size == (640, 427)


@pytest.mark.filterwarnings("ignore:.*not of 48 x 48 pixels")
def test_scores_have_an_id_of_their_own_and_are_nearly_the_same():
    seen, fast = (t2v_eval.load("tiny-clip", image_mode=m, device="cpu") for m in ("seen", "fast"))
    assert "images=seen" in seen.id
    assert fast.id == seen.id.replace("images=seen", "images=fast")
    texts = ["a red circle", "a blue square"]
    np.testing.assert_allclose(fast(PHOTOS, texts), seen(PHOTOS, texts), atol=2e-3)
    image = draw_image(0, (48, 48))
    np.testing.assert_array_equal(fast(image, texts), seen(image, texts))


def test_a_scorer_without_a_fast_path_refuses():
    with pytest.raises(
        InputError, match="`image_mode='fast'`: 'tiny-clip-flant5' has no fast path"
    ):
        t2v_eval.load("tiny-clip-flant5", image_mode="fast", device="cpu")


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(MissingPackageError, match=r"pip install 't2v-eval\[fast\]'"):
        t2v_eval.load("tiny-clip", image_mode="fast", device="cpu")
