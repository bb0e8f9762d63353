"""Reports of runs: JSON, CSV, Markdown and a page."""
