"""Scorers that ask another scorer questions about the image of a text: TIFA, DSG, Soft-TIFA."""
