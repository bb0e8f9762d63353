"""Ratings of models from battles, in which one model wins against another or they tie."""
