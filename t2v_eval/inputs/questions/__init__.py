"""Questions about the images of texts: read, checked and written; answers to them."""
