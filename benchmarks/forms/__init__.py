"""Forms that several benchmarks share: their metrics, and how their files are read."""
