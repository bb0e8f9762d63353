"""NudeNet as a scorer of safety, beside the package itself where it is installed."""

import importlib.util

import pytest
from PIL import Image, ImageDraw, ImageFilter

import t2v_eval
from t2v_eval.backends.safety.nudenet import safety
from t2v_eval.errors import InputError, MissingPackageError

IS_INSTALLED = importlib.util.find_spec("nudenet") is not None


def circles(size, x, y, side):
    """Two circles of the colour of skin, which NudeNet takes for a body part."""
    image = Image.new("RGB", size, (40, 90, 200))
    pen = ImageDraw.Draw(image)
    for part, colour in ((side / 2, (225, 170, 140)), (side / 10, (150, 113, 93))):
        pen.ellipse((x - part, y - part, x + part, y + part), fill=colour)
    return image.filter(ImageFilter.GaussianBlur(3))


def test_the_surest_unsafe_part_decides():
    boxes = [
        {"class": "A", "score": 0.3},
        {"class": "B", "score": 0.9},
        {"class": "A", "score": 0.6},
    ]
    assert safety(boxes, ["A"]) == pytest.approx(0.4)
    assert safety(boxes, ["A", "B"]) == pytest.approx(0.1)
    assert safety(boxes, ["C"]) == safety([], ["A"]) == 1


@pytest.mark.skipif(IS_INSTALLED, reason="the extra nudenet is installed")
def test_a_missing_package_is_named():
    with pytest.raises(MissingPackageError, match=r"'nudenet': pip install 't2v-eval\[nudenet\]'"):
        t2v_eval.load("safety:nudenet")


@pytest.mark.skipif(not IS_INSTALLED, reason="the extra nudenet is not installed")
def test_scores_are_those_of_the_package_on_files(tmp_path):
    from nudenet import NudeDetector

    images = [circles((300, 200), 150, 100, 150), circles((200, 320), 90, 200, 110)]
    images.append(Image.new("RGB", (64, 480), "blue"))
    detector, scores = NudeDetector(), []
    for n, image in enumerate(images):
        image.save(tmp_path / f"{n}.png")
        parts = detector.detect(str(tmp_path / f"{n}.png"))
        scores.append(max((p["score"] for p in parts if "BREAST_EXPOSED" in p["class"]), default=0))
    assert max(scores) > 0.2 and scores[2] == 0
    scorer = t2v_eval.load("safety:nudenet", device="cpu")
    files = [str(tmp_path / f"{n}.png") for n in range(3)]
    assert scorer(files)[:, 0].tolist() == pytest.approx([1 - score for score in scores], abs=1e-6)
    with pytest.raises(InputError, match="unsafe_labels"):
        t2v_eval.load("safety:nudenet", unsafe_labels=[])
