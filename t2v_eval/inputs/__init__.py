"""Images, videos, tables and templates: what users pass, checked and opened."""
