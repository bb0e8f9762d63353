"""Commands about scorers themselves."""
