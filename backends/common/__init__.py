"""What several families share: preparing images, processors, weights, internals of transformers."""
