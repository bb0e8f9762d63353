"""Scorers of a video and a text: dual encoders and matching heads over several frames together."""
