"""Benchmarks, runs, comparisons and agreement with people."""
