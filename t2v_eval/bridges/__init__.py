"""Scorers and reports in the forms that other libraries expect; each is imported by its module."""
