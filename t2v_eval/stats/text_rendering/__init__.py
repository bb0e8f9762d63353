"""Measures of text in images: what a reader reads against what should be written."""
