"""The command that starts a server."""
