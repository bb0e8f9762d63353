"""Helpers of every room: arrays, files, signals, printable text, TOML, PyTorch internals."""
