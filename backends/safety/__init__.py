"""Scorers of unsafe content: the probability that an image shows none."""
