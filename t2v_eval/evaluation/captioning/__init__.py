"""Captions of images: their scores, and the baselines that compare them with human captions."""
