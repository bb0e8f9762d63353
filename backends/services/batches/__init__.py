"""Batch APIs of providers."""
