"""A few hundred damaged files; `tests/performance/fuzz_media.py` makes thousands."""

import pytest
from performance.fuzz_media import draw_images, fuzz, videos


@pytest.mark.parametrize(("kind", "count"), [("image", 300), ("video", 30)])
def test_damaged_files_are_decoded_or_refused(kind, count):
    counts, wrong = fuzz(kind, count, seed=1)
    assert not wrong
    assert sum(counts.values()) == count and min(counts["decoded"], counts["refused"]) > 0


def test_what_is_damaged_is_of_many_kinds():
    formats = {name.split()[0] for name, _ in draw_images()}
    assert {"PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "EPS"} <= formats
    assert {name.rpartition(".")[2] for name, _ in videos()} >= {"mp4", "mkv", "webm", "avi"}
