"""Scorers behind an API: the request pool, costs and the base class."""
