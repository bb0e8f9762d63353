"""Scorers of one's own, by the path of a Python file."""
