"""Scorers that check the objects which a detector finds, as GenEval does."""
