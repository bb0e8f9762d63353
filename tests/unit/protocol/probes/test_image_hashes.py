"""Hashes and near pairs against explicit sums and all pairs one by one."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from t2v_eval.protocol.probes import image_hashes
from t2v_eval.protocol.probes.image_hashes import NEAR, hamming, has_near, image_hash


def drawing(seed):
    """Random rectangles on a random ground."""
    rng = np.random.default_rng(seed)
    pixels = np.empty((96, 128, 3), np.uint8)
    pixels[:] = rng.integers(0, 256, 3)
    for _ in range(8):
        y, x = rng.integers(0, 80, 2)
        height, width = rng.integers(8, 60, 2)
        pixels[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def test_bits_are_signs_of_cosine_sums_relative_to_their_median():
    image = drawing(0)
    small = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.LANCZOS), float)
    angle = np.outer(np.arange(16), 2 * np.arange(64) + 1) * math.pi / 128
    scale = np.where(np.arange(16) == 0, math.sqrt(1 / 64), math.sqrt(2 / 64))[:, None]
    basis = np.cos(angle) * scale
    spectrum = (basis @ small @ basis.T).ravel()
    expected = spectrum > np.median(spectrum[1:])
    expected[0] = False
    assert np.unpackbits(image_hash(image).view(np.uint8)).tolist() == expected.tolist()


def test_encodings_and_sizes_of_an_image_are_near_and_other_images_are_not():
    originals = [drawing(seed) for seed in range(12)]
    for image in originals:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=60)
        copies = Image.open(stream), image.resize((200, 150)), image.resize((77, 61))
        for copy in copies:
            assert hamming(image_hash(image), image_hash(copy)) <= NEAR
    hashes = np.array([image_hash(image) for image in originals])
    distances = hamming(hashes[:, None], hashes[None])[~np.eye(12, dtype=bool)]
    assert distances.min() > 2 * NEAR


@pytest.mark.parametrize("block", [7, 512])
@pytest.mark.parametrize("threshold", [0, 3, 24])
def test_images_with_a_near_one_equal_all_pairs_one_by_one(monkeypatch, block, threshold):
    monkeypatch.setattr(image_hashes, "_BLOCK", block)
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, (60, 4)).astype(np.uint64)
    for k in range(1, 60, 2):  # copies with up to 30 bits changed
        bits = np.unpackbits(hashes[k - 1].view(np.uint8))
        bits[rng.integers(0, 256, k // 2)] ^= 1
        hashes[k] = np.packbits(bits).view(np.uint64)
    groups = rng.integers(0, 20, 60)
    expected = np.zeros(60, bool)
    for i in range(60):
        for j in range(i + 1, 60):
            differ = sum(
                (int(a) ^ int(b)).bit_count() for a, b in zip(hashes[i], hashes[j], strict=True)
            )
            if differ <= threshold and groups[i] != groups[j]:
                expected[[i, j]] = True
    assert has_near(hashes, groups, threshold).tolist() == expected.tolist()


def test_every_copy_in_a_large_folder_of_copies_counts():
    hashes = np.zeros((3000, 4), np.uint64)  # 4.5 million pairs
    hashes[-1] = 2**64 - 1
    assert has_near(hashes, np.arange(3000), NEAR).tolist() == [True] * 2999 + [False]
    assert not has_near(hashes, np.zeros(3000, np.int64), NEAR).any()


def test_bits_are_counted_without_numpy_2():
    words = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    words[:2] = 0, 2**64 - 1
    expected = [int(word).bit_count() for word in words]
    assert image_hashes._count_bits_by_halves(words).tolist() == expected
    assert image_hashes._count_bits(words).tolist() == expected


def test_blank_images_are_copies_of_each_other():
    black, grey = (Image.new("RGB", (50, 40), (level,) * 3) for level in (0, 128))
    assert hamming(image_hash(black), image_hash(grey)) == 0
