"""Let a language model write questions about the images of texts."""
