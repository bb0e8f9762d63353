"""Distances between a reference and the images of generators: files, metrics, cautions, results."""
