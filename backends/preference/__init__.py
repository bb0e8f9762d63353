"""Scorers trained on human preferences and ratings of generated images."""
