"""Ratings of models from battles: reading them, figures with intervals, consistency of judges."""
