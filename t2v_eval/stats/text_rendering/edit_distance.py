"""The edit distance between two texts."""

from __future__ import annotations


def edit_distance(first: str, second: str) -> int:
    """Return the least number of inserted, deleted and replaced characters (Levenshtein 1966).

    Args:
        first: a text of n characters.
        second: a text of m characters; time grows with n x m.

    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    row = list(range(len(second) + 1))
    for n, letter in enumerate(first, 1):
        above_left, row[0] = row[0], n
        for m, other in enumerate(second, 1):
            change = above_left + (letter != other)
            above_left, row[m] = row[m], min(row[m] + 1, row[m - 1] + 1, change)
    return row[-1]
