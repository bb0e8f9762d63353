"""Counting items in order: what metrics of pairs are made of.

| module | holds |
|---|---|
| `bounds` | how many pairs can agree at most at a threshold of ties |
| `ranges` | how many values of a range are greater than a value |
| `ties` | how many scores are equal after some of two scorers are exchanged |
"""
