"""The plan of a run, `Scorer` and its results."""
