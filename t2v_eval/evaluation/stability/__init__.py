"""Scores computed a second time: by a model that runs here, and by a service weeks later."""
