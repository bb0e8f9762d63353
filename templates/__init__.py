"""Question and answer templates: TOML files and nothing else."""
