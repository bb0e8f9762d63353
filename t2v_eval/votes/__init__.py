"""People's votes on pairs of images, and ratings of images: pages, keys, answers."""
