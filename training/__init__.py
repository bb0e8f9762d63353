"""Training of the three embedded models. Not part of the installed package."""
