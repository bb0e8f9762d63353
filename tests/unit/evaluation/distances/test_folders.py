"""Folders of images: what is extracted, kept, reused, left out and told."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, T2VWarning, UnknownNameError
from t2v_eval.evaluation.distances.feature_set import read_features
from t2v_eval.evaluation.distances.folders import extract_folder
from t2v_eval.evaluation.distances.parts import split
from t2v_eval.extractors.extractor import NetworkExtractor


class MeanColour(torch.nn.Module):
    """Counts the images that it sees, and returns their mean colour, as logits too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen += len(x)
        return x.mean(dim=(1, 2)), x.amax(dim=(1, 2))


def extractor(network: torch.nn.Module | None = None, **facts: object) -> NetworkExtractor:
    def prepare(image: Image.Image) -> torch.Tensor:
        assert image.mode == "RGB"
        return torch.tensor(np.asarray(image.resize((4, 4)), np.float32))

    facts = {"network": "mean colour", **facts}
    return NetworkExtractor(network or MeanColour(), prepare, facts, "cpu", batch_size=4)


@pytest.fixture
def images(tmp_path):
    """Ten drawn images, of which two lie in a sub-folder."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for number in range(10):
        name = f"sub/{number}.png" if number > 7 else f"{number}.png"
        draw_image(number).save(folder / name)
    return folder


def test_rows_are_the_images_in_order_of_their_names(images):
    result = extract_folder(images, extractor())
    assert result.names == (*(f"{n}.png" for n in range(8)), "sub/8.png", "sub/9.png")
    with Image.open(images / "3.png") as image:
        pixels = np.asarray(image.convert("RGB").resize((4, 4)), np.float32)
    assert result.features[3] == pytest.approx(pixels.mean(axis=(0, 1)))
    assert result.logits[3] == pytest.approx(pixels.max(axis=(0, 1)))
    assert result.file_of(3) == images / "3.png"
    assert [part.images.name for part in split(None, result, "folder")] == [
        f"{images}/.",
        f"{images}/sub",
    ]


def test_unchanged_images_are_not_extracted_again(images, tmp_path):
    cache, network = tmp_path / "cache", MeanColour()
    first = extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 10
    again = extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 10
    assert again.features.tolist() == first.features.tolist()
    assert again.logits.tolist() == first.logits.tolist()
    assert again.extractor == first.extractor

    draw_image(99).save(images / "3.png")
    (images / "4.png").unlink()
    draw_image(98).save(images / "new.png")
    changed = extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 12
    fresh = extract_folder(images, extractor())
    assert changed.names == fresh.names
    assert changed.features.tolist() == fresh.features.tolist()


def test_a_file_replaced_with_the_same_size_and_time_is_extracted_again(images, tmp_path):
    cache, network = tmp_path / "cache", MeanColour()
    extract_folder(images, extractor(network), cache=cache)
    path, other = images / "1.png", images / "2.png"
    before = path.stat()
    path.write_bytes(other.read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 11


def test_another_network_or_resizer_has_its_own_file(images, tmp_path):
    network = MeanColour()
    for facts in ({"resize": "clean"}, {"resize": "legacy"}, {"weights": "x"}):
        extract_folder(images, extractor(network, **facts), cache=tmp_path / "cache")
    assert network.seen == 30
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 3


def test_the_kept_file_is_an_npz_of_features(images, tmp_path):
    result = extract_folder(images, extractor(), cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.npz")
    read = read_features(file)
    assert read.features.tolist() == result.features.tolist()
    assert read.names == result.names
    assert read.extractor["network"] == "mean colour"


def test_a_damaged_file_is_written_anew(images, tmp_path):
    cache, network = tmp_path / "cache", MeanColour()
    expected = extract_folder(images, extractor(network), cache=cache)
    (file,) = cache.glob("*.npz")
    file.write_bytes(file.read_bytes()[:400])
    with pytest.warns(T2VWarning, match="damaged and is written anew"):
        result = extract_folder(images, extractor(network), cache=cache)
    assert result.features.tolist() == expected.features.tolist()
    assert read_features(file).count == 10


def test_an_interrupted_run_goes_on(images, tmp_path):
    class Interrupted(MeanColour):
        def forward(self, x):
            if self.seen >= 4:
                raise KeyboardInterrupt
            return super().forward(x)

    cache, network = tmp_path / "cache", MeanColour()
    with pytest.raises(KeyboardInterrupt):
        extract_folder(images, extractor(Interrupted()), cache=cache)
    result = extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 6
    assert result.features.tolist() == extract_folder(images, extractor()).features.tolist()


def test_a_killed_run_goes_on_behind_its_last_batch(images, tmp_path):
    """A process that is killed runs no code at its end, so each batch must be on the disk."""
    cache, network = tmp_path / "cache", MeanColour()

    class Watched(MeanColour):
        def forward(self, x):
            if self.seen:
                assert len(list(cache.glob("*.batch-*.npz"))) == self.seen // 4
            if self.seen == 8:
                shutil.copytree(cache, tmp_path / "killed")
            return super().forward(x)

    extract_folder(images, extractor(Watched()), cache=cache)
    (file,) = cache.iterdir()
    result = extract_folder(images, extractor(network), cache=tmp_path / "killed")
    assert network.seen == 2
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [file.name]
    assert result.features.tolist() == read_features(file).features.tolist()


def test_a_damaged_batch_alone_is_extracted_again(images, tmp_path):
    cache, network = tmp_path / "cache", MeanColour()
    extract_folder(images, extractor(), cache=cache)
    (file,) = cache.glob("*.npz")
    for number in (1, 2):
        shutil.copy(file, cache / f"{file.stem}.batch-{number}.npz")
    file.unlink()
    (cache / f"{file.stem}.batch-1.npz").write_bytes(b"x")
    with pytest.warns(T2VWarning, match=r"batch-1.*damaged"):
        extract_folder(images, extractor(network), cache=cache)
    assert network.seen == 0


def test_images_that_cannot_be_used_are_named_and_left_out(images):
    (images / "damaged.png").write_bytes((images / "1.png").read_bytes()[:60])
    (images / "text.jpg").write_text("no image")
    (images / "empty.png").write_bytes(b"")
    (images / "notes.txt").write_text("not an image")
    result = extract_folder(images, extractor())
    unreadable = result.extractor["files"]["unreadable"]
    assert list(unreadable) == ["damaged.png", "empty.png", "text.jpg"]
    assert "empty.png" in unreadable["empty.png"]
    assert result.count == result.extractor["files"]["count"] == 10
    reference = np.random.default_rng(0).normal(size=(50, 3))
    warnings = t2v_eval.distance(reference, result, "kid", resamples=0).pairs[0].warnings
    (line,) = (line for line in warnings if "3 images left out" in line)
    assert all(name in line for name in unreadable)


def test_an_image_that_fails_in_the_network_is_left_out(images):
    class Failing(MeanColour):
        def forward(self, x):
            if len(x) == 1 and self.seen == 0:
                self.seen = 1
                raise ValueError("unusual")
            if len(x) > 1 and self.seen == 0:
                raise ValueError("unusual")
            return super().forward(x)

    result = extract_folder(images, extractor(Failing()))
    assert result.count == 9
    assert list(result.extractor["files"]["unreadable"]) == ["0.png"]


def test_what_the_files_were_like_is_told(images):
    draw_image(1).convert("L").save(images / "gray.png")
    draw_image(2).convert("RGBA").save(images / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_image(3).resize((30, 20)).save(images / "turned.jpg", exif=exif)
    notes = extract_folder(images, extractor()).extractor["files"]
    assert (notes["grayscale"], notes["transparent"], notes["rotated"]) == (1, 1, 1)
    assert [30, 20] in notes["sizes"]


def test_what_is_not_looked_at_is_told(images, tmp_path):
    draw_image(1).save(images / "moving.gif")
    (images / "broken.png").symlink_to(tmp_path / "gone.png")
    (images / "linked").symlink_to(images / "sub", target_is_directory=True)
    result = extract_folder(images, extractor())
    assert result.count == 10
    warnings = "\n".join(t2v_eval.distance(None, result, "vendi", resamples=0).pairs[0].warnings)
    for text in ("1 image of other formats (.gif)", "broken links, left out: 1", "not followed: 1"):
        assert text in warnings


def test_files_of_the_whole_folder_are_told_once_of_its_parts(images):
    draw_image(1).convert("L").save(images / "gray.png")
    part = t2v_eval.distance(
        None, images, "vendi", features=extractor(), by="folder", resamples=0
    ).pairs[1]
    assert part.images == f"{images}/sub"
    assert part.warnings == (f"{images}: 1 image in grayscale",)


def test_paths_are_checked_before_a_network_is_loaded(images):
    for path in ("gone", images.parent / "gone.npz"):
        with pytest.raises(InputError, match="no such folder"):
            t2v_eval.distance(images, [images, path], "kid", features="no such network")


def test_files_as_scripts_write_them(tmp_path):
    """Nested, with any case of endings, 16 bits, CMYK, several frames, turned, or cut off."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    upright = draw_image(1).convert("RGB").resize((40, 40))
    upright.putpixel((0, 0), (255, 255, 255))
    upright.save(folder / "upper.PNG")
    upright.convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.full((40, 40), 0x8000, np.uint16)
    Image.fromarray(deep).save(folder / "deep.tiff")
    draw_image(2).resize((40, 40)).convert("RGB").save(
        folder / "moving.webp", save_all=True, append_images=[upright], lossless=True
    )
    exif = Image.Exif()
    exif[0x0112] = 3
    upright.rotate(180).save(folder / "turned.png", exif=exif)
    upright.resize((400, 400)).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:-3000])
    result = extract_folder(tmp_path, extractor())
    assert list(result.extractor["files"]["unreadable"]) == ["a/b/cut.jpg"]
    rows = dict(zip(result.names, result.features, strict=True))
    assert rows["a/b/turned.png"].tolist() == rows["a/b/upper.PNG"].tolist()
    assert rows["a/b/deep.tiff"] == pytest.approx([128] * 3)
    with Image.open(folder / "cmyk.jpg") as image:
        expected = np.asarray(image.convert("RGB").resize((4, 4)), np.float32).mean(axis=(0, 1))
    assert rows["a/b/cmyk.jpg"] == pytest.approx(expected)
    first = np.asarray(draw_image(2).resize((40, 40)).convert("RGB").resize((4, 4)), np.float32)
    assert rows["a/b/moving.webp"] == pytest.approx(first.mean(axis=(0, 1)), abs=0.5)


def test_folders_without_images_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"x")
    for name, message in (("empty", "no images"), ("bad", "none of 1"), ("gone", "no such folder")):
        with pytest.raises(InputError, match=message):
            extract_folder(tmp_path / name, extractor())


def test_command_line_with_the_embedded_network(images, tmp_path):
    cache = tmp_path / "cache"
    flags = ("--metric", "kid", "--metric", "cmmd", "--resamples", 10, "--device", "cpu")
    command = ["distance", "--reference", images, "--images", images, *flags, "--json"]
    results = []
    for _ in range(2):
        done = CliRunner().invoke(app, [str(a) for a in (*command, "--cache", cache)])
        assert done.exit_code == 0, done.output
        results.append(json.loads(done.stdout))
    assert results[0] == results[1]
    assert results[0]["features"]["network"] == "tiny-clip"
    (pair,) = results[0]["pairs"]
    assert pair["counts"] == {"reference": 10, "images": 10}
    assert pair["metrics"]["cmmd"]["value"] == pytest.approx(0, abs=1e-6)
    assert any("holds, too: 10" in line for line in pair["warnings"])
    assert len(list(cache.glob("*.npz"))) == 1


def test_one_reference_serves_several_generators(images, tmp_path):
    network = MeanColour()
    other = tmp_path / "other"
    other.mkdir()
    for number in range(5):
        draw_image(40 + number).save(other / f"{number}.png")
    one = extractor(network)
    result = t2v_eval.distance(images, [other, other], "kid", features=one, resamples=0)
    assert len(result.pairs) == 2
    assert network.seen == 20
    assert result.features == {"network": "mean colour", "dtype": "float32", "dimensions": 3}


def test_features_that_do_not_exist_are_named(images):
    for name, error in (("inception", UnknownNameError), ("clip-flant5-xxl", Exception)):
        with pytest.raises(error):
            t2v_eval.distance(images, images, "kid", features=name)
    done = CliRunner().invoke(
        app, ["distance", "--images", str(images), "--metric", "vendi", "--features", "dino"]
    )
    assert done.exit_code == 2
    assert "dinov2" in done.output
    with pytest.raises(InputError, match="only inception-v3"):
        t2v_eval.extractors.names.load_extractor("dinov2", resize="clean")
