"""The gate: is what a new report measured worse than in the report of a baseline?"""
