"""Scorers that read the text in images and compare it with what should be written."""
