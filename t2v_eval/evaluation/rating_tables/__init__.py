"""Tables of scores and ratings: their columns, and the metrics of their resamples."""
