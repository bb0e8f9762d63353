"""Checks that prove a loaded checkpoint: its files, its tokenizer, its scores, known answers."""
