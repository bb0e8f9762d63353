"""VQAScore with vision-language models of transformers."""
