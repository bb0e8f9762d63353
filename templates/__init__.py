"""Question and answer templates, as TOML files."""
