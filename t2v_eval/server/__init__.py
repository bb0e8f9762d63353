"""A server that scores images and texts over HTTP, for several clients at once."""
