"""Scorers that a server of this library runs on another machine."""
