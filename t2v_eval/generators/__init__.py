"""Making the images of prompts: what is made, with which seeds, by which generator, and where."""
