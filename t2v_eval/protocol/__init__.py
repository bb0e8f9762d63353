"""The protocol of four pillars: what is measured of a generator, and what is not."""
