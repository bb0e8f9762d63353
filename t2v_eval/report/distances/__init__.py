"""The page of distances between sets of images."""
