"""Commands that compute statistics of files, without a model."""
