"""Review images by eye, and by scorers of safety: flags, their rates and agreement."""
