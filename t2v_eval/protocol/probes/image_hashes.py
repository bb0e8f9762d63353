"""Perceptual hashes of images, and the pairs of images whose hashes are near.

The hash is pHash (Zauner 2010, Implementation and benchmarking of perceptual image hash functions)
with 16 x 16 coefficients in place of 8 x 8: the signs of the low frequencies of an image of
64 x 64 pixels, relative to their median. Two encodings of one image, or two sizes, differ in few of
the 256 bits; two different images differ in about 128.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

Hashes = NDArray[np.uint64]

SIDE, FREQUENCIES = 64, 16
WORDS = FREQUENCIES * FREQUENCIES // 64
BITS = 64 * WORDS
NEAR = 24
"""Bits in which two encodings, sizes or light crops of one photograph differ at most; the nearest
of 45,000 pairs of different drawings differ in 62."""
_BLOCK = 512  # rows and columns of a block of pairs: 2 MiB, which stay in the processor's cache


def image_hash(image: Image.Image) -> Hashes:
    """Return the hash of an image, `WORDS` words of 64 bits.

    >>> flat, halves = Image.new("L", (64, 64)), Image.new("L", (64, 64))
    >>> halves.paste(255, (0, 0, 32, 64))
    >>> int(hamming(image_hash(flat), image_hash(flat))), len(image_hash(halves))
    (0, 4)
    """
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    spectrum = fft.dctn(np.asarray(small, np.float64), norm="ortho")
    low = spectrum[:FREQUENCIES, :FREQUENCIES].ravel()
    low[0] = 0.0  # the mean brightness
    # Coefficients that are 0 but for rounding have no sign of their own.
    low[np.abs(low) < 1e-9] = 0.0
    bits = low > np.median(low[1:])
    bits[0] = False
    return np.packbits(bits).view(np.uint64)


def hamming(first: Hashes, second: Hashes) -> NDArray[np.int64]:
    """Return in how many bits hashes differ, 0 to `BITS`.

    Args:
        first: shape (..., words).
        second: shape (..., words), of a shape that broadcasts with it.

    >>> int(hamming(np.array([0b1011], np.uint64), np.array([0b0010], np.uint64)))
    2
    """
    result: NDArray[np.int64] = _count_bits(first ^ second).sum(axis=-1, dtype=np.int64)
    return result


def near_pairs(
    hashes: Hashes, groups: NDArray[np.int64], threshold: int, limit: int = 1_000_000
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of images of different groups whose hashes are near.

    Pairs are compared in blocks, word by word, which leaves few to compare whole: 100,000 hashes
    are five billion pairs and take about a minute on one core.

    Args:
        hashes: shape (n, words).
        groups: shape (n,): images of one group, such as those of one prompt, are no pair.
        threshold: bits in which the hashes of a pair differ at most.
        limit: pairs after which the search ends, so that a folder of copies ends in time.

    Returns:
        Pairs (p, 2), the smaller index first, and their distances (p,) in bits.

    >>> hashes = np.array([[0], [1], [255]], np.uint64)
    >>> near_pairs(hashes, np.array([0, 1, 2]), threshold=1)[0].tolist()
    [[0, 1]]
    """
    pairs, distances, count = [], [], 0
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK]
        for other in range(start, len(hashes), _BLOCK):
            columns = hashes[other : other + _BLOCK]
            i, j, distance = _near_in_block(rows, columns, threshold)
            keep = (i + start < j + other) & (groups[i + start] != groups[j + other])
            pairs.append(np.stack([i[keep] + start, j[keep] + other], axis=1))
            distances.append(distance[keep])
            count += int(keep.sum())
            if count >= limit:
                break
        if count >= limit:
            break
    if not pairs:
        return np.empty((0, 2), np.int64), np.empty(0, np.int64)
    return np.concatenate(pairs)[:limit], np.concatenate(distances)[:limit]


def _near_in_block(
    rows: Hashes, columns: Hashes, threshold: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows, columns and distances of near pairs.

    In one word or more of a near pair, no more than an even share of the bits differ, which is so
    for hardly any other pair.
    """
    share = threshold // rows.shape[1]
    candidate = np.zeros((len(rows), len(columns)), np.bool_)
    for word in range(rows.shape[1]):
        candidate |= _count_bits(rows[:, None, word] ^ columns[None, :, word]) <= share
    i, j = np.nonzero(candidate)
    distance = hamming(rows[i], columns[j])
    near = distance <= threshold
    return i[near], j[near], distance[near]


def _count_bits(words: Hashes) -> NDArray[np.uint8]:
    """Count the bits of each word that are 1."""
    if hasattr(np, "bitwise_count"):  # since NumPy 2.0
        counts: NDArray[np.uint8] = np.bitwise_count(words)
        return counts
    return _count_bits_by_halves(words)


def _count_bits_by_halves(words: Hashes) -> NDArray[np.uint8]:
    """Count the bits of pairs, then of fours and of bytes (Warren 2013, Hacker's Delight, 5-1)."""
    pairs, fours = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
    octets, one = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
    x = words - ((words >> np.uint64(1)) & pairs)
    x = (x & fours) + ((x >> np.uint64(2)) & fours)
    x = (x + (x >> np.uint64(4))) & octets
    with np.errstate(over="ignore"):
        counts: NDArray[np.uint8] = ((x * one) >> np.uint64(56)).astype(np.uint8)
    return counts
