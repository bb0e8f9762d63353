"""Scoring by the workers of a Ray cluster, or of Ray on this machine."""
