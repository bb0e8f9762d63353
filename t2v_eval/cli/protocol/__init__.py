"""Commands of the protocol of four pillars."""
