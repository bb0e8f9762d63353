"""The page of ratings from battles."""
