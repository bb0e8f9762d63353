"""The files that people and researchers get: what a page shows, and what only its key says."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.generated import GENERATORS, HOSTILE, write_images
from PIL import Image

from t2v_eval.errors import InputError, MediaError, OutputError, TableError
from t2v_eval.votes import page as page_module
from t2v_eval.votes.images import degrade
from t2v_eval.votes.key import read_key
from t2v_eval.votes.page import write_page
from t2v_eval.votes.tasks import PromptImages, plan_pairs, plan_ratings

TEXTS = ["a cat", HOSTILE, "سيارة حمراء", "half a character: \udc9f", "line\nbreak\u2028"]

METADATA = {"exif", "icc_profile", "comment", "xmp"}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secretfolder")
    folders = write_images(folder, GENERATORS, prompts=len(TEXTS))
    return [
        PromptImages(f"{n}", text, {f.name: [str(f / f"{n:05}_0.jpg")] for f in folders})
        for n, text in enumerate(TEXTS)
    ]


class Scripts(HTMLParser):
    """The contents of the script elements of a page, and the attributes of all elements."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.attributes, self.current = {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        self.current = dict(attributes).get("id", "own") if tag == "script" else None

    def handle_endtag(self, tag):
        self.current = None

    def handle_data(self, data):
        if self.current:
            self.scripts[self.current] = self.scripts.get(self.current, "") + data


def read_page(path):
    text = path.read_text(encoding="utf-8")
    parsed = Scripts(text)
    images = [
        Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        for url in json.loads(parsed.scripts["images"])
    ]
    return text, parsed, json.loads(parsed.scripts["data"]), images


def test_nothing_in_a_page_names_a_generator_a_file_or_a_side(prompts, tmp_path):
    page = write_page(plan_pairs(prompts), tmp_path / "out")
    text, _, data, images = read_page(page.path)
    for word in (
        *GENERATORS,
        "secret",
        "unknown",
        "00000_",
        ".jpg",
        "degraded",
        "attention",
    ):
        assert word not in text
    assert {tuple(task) for task in data["tasks"]} == {("id", "text", "images")}
    assert {image.format for image in images} == {"WEBP"}
    assert not [image.info for image in images if image.getexif() or METADATA & {*image.info}]


def test_an_image_has_no_metadata_where_pillow_has_no_webp(prompts, tmp_path, monkeypatch):
    monkeypatch.setattr("t2v_eval.votes.images.features.check", lambda name: False)
    _, _, _, images = read_page(write_page(plan_pairs(prompts), tmp_path).path)
    assert {image.format for image in images} == {"JPEG"}
    assert not [image.info for image in images if image.getexif() or METADATA & {*image.info}]


def test_a_page_runs_its_own_script_alone_and_asks_for_nothing(prompts, tmp_path):
    page = write_page(plan_pairs(prompts), tmp_path)
    text, parsed, data, _ = read_page(page.path)
    assert set(parsed.scripts) == {"data", "images", "own"}
    (policy,) = [
        v for tag, name, v in parsed.attributes if name == "content" and "default-src" in v
    ]
    own = base64.b64encode(hashlib.sha256(parsed.scripts["own"].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{own}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"https?://", text)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on") or name == "href"]
    assert HOSTILE in {task["text"] for task in data["tasks"]} and "<img src=x" not in text


def test_the_key_says_what_the_page_does_not(prompts, tmp_path):
    tasks = plan_pairs(prompts, attention=0.2)
    page = write_page(tasks, tmp_path)
    key = read_key(page.key, "vote")
    _, _, data, images = read_page(page.path)
    assert key.page == data["page"] == page.id
    assert [*key.tasks] == [task["id"] for task in data["tasks"]] == [task.id for task in tasks]
    for task in data["tasks"]:
        known = key.tasks[task["id"]]
        assert known.text == task["text"]
        for image, index in zip(known.images, task["images"], strict=True):
            original = np.asarray(Image.open(image.path), np.float64)
            pixels = np.asarray(images[index].convert("RGB"), np.float64)
            assert (np.abs(original - pixels).mean() > 8) == image.degraded


def test_a_degraded_image_keeps_its_colours_and_nothing_else():
    half = np.zeros((200, 300, 3), np.uint8)
    half[:, :150] = 255
    blurred = np.asarray(degrade(Image.fromarray(half)), np.float64)
    assert blurred.shape == (200, 300, 3)
    assert abs(blurred.mean() - 127.5) < 5
    assert abs(np.corrcoef(blurred.ravel(), half.ravel())[0, 1]) < 0.3


def test_images_are_made_smaller_but_never_larger(tmp_path):
    (folder,) = write_images(tmp_path, ["a"], prompts=1, size=(400, 200))
    prompts = [PromptImages("0", "a cat", {"a": [str(folder / "00000_0.jpg")]})]
    for pixels, size in ((100, (100, 50)), (768, (400, 200))):
        page = write_page(plan_ratings(prompts, attention=0), tmp_path / str(pixels), "", pixels)
        assert read_page(page.path)[3][0].size == size


def test_an_image_of_several_pairs_is_in_the_page_once(prompts, tmp_path):
    page = write_page(plan_pairs(prompts, attention=0), tmp_path)
    assert (page.tasks, len(read_page(page.path)[3])) == (15, 15)


def test_instructions_of_a_file_are_paragraphs_and_inert(prompts, tmp_path):
    page = write_page(plan_pairs(prompts), tmp_path, f"Judge the cats.\n\n\n{HOSTILE}\nTwo lines.")
    text, _, _, _ = read_page(page.path)
    assert "<p>Judge the cats.</p>" in text and "Some pairs have" not in text
    assert "&lt;script&gt;alert(2)&lt;/script&gt; {{ 7 * 7 }} Two lines.</p>" in text


def test_too_many_images_are_refused_with_how_many_fit(prompts, tmp_path, monkeypatch):
    page = write_page(plan_pairs(prompts, attention=0), tmp_path / "all")
    data = json.loads(read_page(page.path)[1].scripts["images"])
    monkeypatch.setattr(page_module, "MAX_BYTES", sum(map(len, data)) // 2)
    message = r"of 15 tasks fill the \d+ MB .* pass `pairs=(\d+)` or a smaller `image_pixels=512`"
    with pytest.raises(InputError, match=message) as raised:
        write_page(plan_pairs(prompts, attention=0), tmp_path / "half")
    assert [*(tmp_path / "half").iterdir()] == []
    fit = int(re.search(r"pairs=(\d+)", str(raised.value))[1])
    assert write_page(plan_pairs(prompts, fit, attention=0), tmp_path / "fit").tasks == fit
    with pytest.raises(InputError, match="pass a smaller `image_pixels=512`|pass `limit="):
        monkeypatch.setattr(page_module, "MAX_BYTES", 10)
        write_page(plan_ratings(prompts), tmp_path / "none")


def test_the_same_command_writes_the_same_files_and_another_is_refused(prompts, tmp_path):
    page = write_page(plan_pairs(prompts, seed=1), tmp_path)
    before = page.path.read_bytes(), page.key.read_bytes()
    write_page(plan_pairs(prompts, seed=1), tmp_path)
    assert (page.path.read_bytes(), page.key.read_bytes()) == before
    for other in (plan_pairs(prompts, seed=2), plan_ratings(prompts, seed=1)):
        with pytest.raises(
            OutputError, match=rf"key.json is the key of page {page.id}, .*`folder="
        ):
            write_page(other, tmp_path)
    assert (page.path.read_bytes(), page.key.read_bytes()) == before
    page.key.write_text("{}")
    with pytest.raises(OutputError, match=r"key.json is no key of a page"):
        write_page(plan_pairs(prompts, seed=1), tmp_path)


def test_a_damaged_image_and_impossible_sizes_are_refused(prompts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(MediaError, match=r"broken\.png"):
        write_page(plan_ratings([PromptImages("0", "x", {"a": [str(broken)]})]), tmp_path / "out")
    for pixels in (0, -3, 5000):
        with pytest.raises(InputError, match=rf"`image_pixels={pixels}`"):
            write_page(plan_pairs(prompts), tmp_path / "out", "", pixels)


def test_pairs_of_different_shapes_are_counted(prompts, tmp_path):
    assert write_page(plan_pairs(prompts), tmp_path / "same").unequal == 0
    (square,) = write_images(tmp_path, ["square"], prompts=1, size=(64, 64))
    images = {
        "square": [str(square / "00000_0.jpg")],
        GENERATORS[0]: prompts[0].images[GENERATORS[0]],
    }
    page = write_page(plan_pairs([PromptImages("0", "a cat", images)]), tmp_path / "other")
    assert (page.unequal, page.tasks, page.attention) == (1, 2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "is no key: version 2 is not 1"),
        ({"kind": "both"}, "is no key: kind 'both' is none of vote, rate"),
        ({"tasks": [1]}, "is no key: "),
        ({"tasks": {"x": {"prompt": "0", "text": "a"}}}, "is no key: 'images' is missing"),
        ({"tasks": {"x": {"prompt": "0", "text": "a", "images": []}}}, "task 'x' has 0 images"),
        ({"kind": "rate"}, "of a page of `t2v-eval rate`, whose files `t2v-eval ratings` reads"),
    ],
)
def test_a_file_that_is_no_key_says_so(prompts, tmp_path, change, message):
    page = write_page(plan_pairs(prompts), tmp_path)
    page.key.write_text(json.dumps(json.loads(page.key.read_text()) | change))
    with pytest.raises(TableError, match=message):
        read_key(page.key, "vote")


def test_paths_of_a_key_are_relative_to_it(prompts, tmp_path):
    write_page(plan_ratings(prompts), tmp_path / "deep" / "out")
    content = json.loads((tmp_path / "deep" / "out" / "key.json").read_text())
    paths = {image["image"] for task in content["tasks"].values() for image in task["images"]}
    assert all(path.startswith("../../") for path in paths)
    key = read_key(tmp_path / "deep" / "out" / "key.json")
    assert {i.path for t in key.tasks.values() for i in t.images} <= {
        str(tmp_path / "deep" / "out" / path) for path in paths
    }
