"""Utilities of all packages: arrays, files, signals, printable text, TOML, PyTorch internals."""
