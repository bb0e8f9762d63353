"""Scorers of edits: the image before, the image after, and what should change."""
