"""Scorers behind a service: protocols, questions, and what joins them."""
