"""Options of workers that score together."""
