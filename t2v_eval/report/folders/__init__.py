"""Folders of reports: an index of many, and their figures in the formats of others."""
