"""Images of prompts by a service."""
